//! Names that a tenant, or an attacker, may have chosen: harmless in every form.

use guardian_audit::{
    Report, Severity,
    exceptions::Excepted,
    facts::{Missing, Source},
    report::{Format, render},
};
use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser, Tag};
use serde_json::Value;

use crate::made::{attack, empty, finding};

const PIECES: [&str; 40] = [
    "\n",
    "\r",
    "\t",
    "\u{1b}[2J",
    "\u{1b}]0;x\u{7}",
    "\u{9b}1m",
    "\u{202e}",
    "\u{200b}",
    "\u{2028}",
    "\u{85}",
    "`",
    "```",
    "~~~",
    "<script>",
    "</testcase>",
    "]]>",
    "<![CDATA[",
    "&",
    "&lt;",
    "\"",
    "'",
    "|",
    "](http://x)",
    "![",
    "[",
    "]",
    "{0}",
    "\\",
    "%2e",
    "../",
    "\u{ffff}",
    "\u{fffe}",
    "# ",
    "@user",
    "-->",
    "<!--",
    " ",
    "a",
    "é",
    "💥",
];

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..9).prop_map(|pieces| pieces.concat())
}

/// One finding of each standing, and everything else that a report can tell, with the name in each text.
fn report_of(name: &str) -> Report {
    let mut report = empty();
    name.clone_into(&mut report.database);
    report.app_roles = vec![name.to_owned()];
    report.findings = vec![finding("GRD-PG-001", Severity::Critical, name), finding("GRD-PG-002", Severity::Low, name)];
    report.known = vec![finding("GRD-PG-003", Severity::High, name)];
    report.gone = vec![format!("GRD-PG-003 {name}")];
    report.excepted = vec![Excepted {
        finding: finding("GRD-PG-301", Severity::High, name),
        reason: name.to_owned(),
        until: "2027-01-31".parse().unwrap(),
        origin: name.to_owned(),
    }];
    report.attack = Some(attack(name));
    report.undecided.insert(name.to_owned(), name.to_owned());
    let missing = Missing { source: Source::Policies, reason: name.to_owned() };
    report.missing = vec![missing.clone()];
    report.could_not_run =
        vec![guardian_audit::audit::NotRun { rule: "GRD-PG-201", title: "Anything", missing: vec![missing] }];
    report
}

fn text_of(report: &Report, format: Format) -> String {
    render(report, format, Some(Severity::High)).unwrap()
}

/// What the name becomes where control characters are shown.
fn shown(text: &str) -> String {
    guardian_audit::report::escape::line(text)
}

fn no_terminal_obeys(text: &str) -> bool {
    text.chars().all(|c| {
        c == '\n'
            || !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn no_form_has_what_a_terminal_would_obey(name in name()) {
        for format in Format::ALL {
            let text = text_of(&report_of(&name), format);
            prop_assert!(no_terminal_obeys(&text), "{format:?}: {text:?}");
            prop_assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{format:?}");
        }
    }

    #[test]
    fn a_name_makes_no_line_in_the_terminal_of_its_own(name in name()) {
        let lines = |name: &str| text_of(&report_of(name), Format::Terminal).lines().count();
        // A remedy has as many lines as its SQL.
        prop_assert_eq!(lines(&name), lines("plain") + 2 * (format!("ALTER {name} x").lines().count() - 1));
    }

    #[test]
    fn json_and_sarif_keep_the_name_whole(name in name()) {
        let report = report_of(&name);
        let json: Value = serde_json::from_str(&text_of(&report, Format::Json)).unwrap();
        prop_assert_eq!(json["findings"][0]["object"]["name"].as_str(), Some(name.as_str()));
        prop_assert_eq!(json["findings"].as_array().unwrap().len(), 2);
        let sarif: Value = serde_json::from_str(&text_of(&report, Format::Sarif)).unwrap();
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        prop_assert_eq!(results.len(), 6);
        for result in results {
            prop_assert_eq!(result["locations"][0]["logicalLocations"][0]["name"].as_str(), Some(name.as_str()));
            let message = result["message"]["text"].as_str().unwrap();
            let links = message.match_indices("](").filter(|(at, _)| !message[..*at].ends_with('\\'));
            prop_assert_eq!(links.count(), 0, "{}", message);
            let uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
            prop_assert!(uri.starts_with("postgresql/") && uri.matches('/').count() == 3, "{}", uri);
            let climbs = |part: &str| part.replace("%2E", ".").bytes().all(|byte| byte == b'.');
            prop_assert!(!uri.split('/').any(climbs), "{}", uri);
            prop_assert!(uri.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/%._-".contains(&byte)), "{}", uri);
        }
    }

    #[test]
    fn junit_is_xml_and_keeps_the_name(name in name()) {
        let report = report_of(&name);
        let text = text_of(&report, Format::Junit);
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        let cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
        let of = |tag: &'static str| document.descendants().filter(move |node| node.has_tag_name(tag)).collect::<Vec<_>>();
        prop_assert_eq!((of("failure").len(), of("error").len(), of("skipped").len(), of("system-out").len()), (2, 1, 3, 2));
        let allowed = ["testsuites", "testsuite", "testcase", "failure", "error", "skipped", "system-out"];
        prop_assert!(document.descendants().filter(roxmltree::Node::is_element).all(|node| allowed.contains(&node.tag_name().name())));
        let counted = cases.len().to_string();
        prop_assert_eq!(document.root_element().attribute("tests"), Some(counted.as_str()));
        let visible = |text: &str| shown(text).replace('\u{ffff}', "\\u{ffff}").replace('\u{fffe}', "\\u{fffe}");
        prop_assert_eq!(of("failure")[0].attribute("message").unwrap(), visible(&format!("the table {name} is open")));
    }

    #[test]
    fn markdown_has_the_name_only_in_code(name in name()) {
        let text = text_of(&report_of(&name), Format::Markdown);
        let plain = text_of(&report_of("plain"), Format::Markdown);
        // The same structure as with a harmless name: what differs is the content of code.
        prop_assert_eq!(structure(&text), structure(&plain), "{}", text);
        let spans: Vec<String> = Parser::new_ext(&text, Options::all()).filter_map(|event| match event {
            Event::Code(code) => Some(code.into_string()),
            _ => None,
        }).collect();
        let wanted = shown(&format!("the table {name} is open"));
        prop_assert!(spans.contains(&wanted), "{:?} not in {:?}", wanted, spans);
    }
}

fn structure(text: &str) -> Vec<String> {
    let mut structure = Vec::new();
    let mut in_block = false;
    for event in Parser::new_ext(text, Options::all()) {
        match event {
            Event::Code(_) => structure.push("code".to_owned()),
            Event::Start(Tag::CodeBlock(kind)) => {
                in_block = true;
                structure.push(format!("{kind:?}"));
            }
            Event::End(pulldown_cmark::TagEnd::CodeBlock) => in_block = false,
            Event::Text(_) if in_block => {}
            event => structure.push(format!("{event:?}")),
        }
    }
    structure
}
