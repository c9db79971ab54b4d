//! The shape that readers of SARIF and `JUnit` rely on.

use guardian_audit::{
    Severity,
    exceptions::Excepted,
    report::{Format, render},
    rules,
};
use serde_json::Value;

use crate::made::{attack, empty, finding};

fn sarif_of(report: &guardian_audit::Report) -> Value {
    serde_json::from_str(&render(report, Format::Sarif, None).unwrap()).unwrap()
}

/// What the schema of SARIF 2.1.0 requires of the parts that we write, by its own words.
fn check(log: &Value) {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().ends_with("sarif-schema-2.1.0.json"));
    let runs = log["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    let driver = &runs[0]["tool"]["driver"];
    assert!(text(&driver["name"]) && text(&driver["semanticVersion"]));
    let descriptors = driver["rules"].as_array().unwrap();
    for rule in descriptors {
        assert!(
            text(&rule["id"]) && text(&rule["shortDescription"]["text"]) && text(&rule["fullDescription"]["text"]),
            "{rule}"
        );
        assert!(text(&rule["help"]["text"]) && text(&rule["help"]["markdown"]), "{rule}");
        assert!(["none", "note", "warning", "error"].contains(&rule["defaultConfiguration"]["level"].as_str().unwrap()));
        let score: f32 = rule["properties"]["security-severity"].as_str().unwrap().parse().unwrap();
        assert!((0.1..=10.0).contains(&score));
        assert!(rule["properties"]["tags"].as_array().unwrap().iter().all(text));
    }
    let invocation = &runs[0]["invocations"][0];
    assert!(invocation["executionSuccessful"].is_boolean());
    for notification in invocation["toolExecutionNotifications"].as_array().unwrap() {
        assert!(text(&notification["message"]["text"]));
    }
    for result in runs[0]["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(descriptors[index]["id"], result["ruleId"], "ruleIndex is the place of ruleId");
        let level = result["level"].as_str().unwrap();
        match result["kind"].as_str().unwrap() {
            "fail" => assert!(["note", "warning", "error"].contains(&level)),
            // Whatever is no failure must not have a level.
            "open" => assert_eq!(level, "none"),
            other => panic!("{other}"),
        }
        assert!(text(&result["message"]["text"]));
        let location = &result["locations"][0];
        assert!(text(&location["physicalLocation"]["artifactLocation"]["uri"]));
        assert!(location["physicalLocation"]["region"]["startLine"].as_u64() >= Some(1));
        let logical = &location["logicalLocations"][0];
        assert!(text(&logical["name"]) && text(&logical["fullyQualifiedName"]) && text(&logical["kind"]));
        let fingerprints = result["partialFingerprints"].as_object().unwrap();
        assert!(!fingerprints.is_empty() && fingerprints.values().all(text));
        if let Some(suppressions) = result.get("suppressions") {
            assert!(["inSource", "external"].contains(&suppressions[0]["kind"].as_str().unwrap()));
            assert!(text(&suppressions[0]["justification"]));
        }
        if let Some(state) = result.get("baselineState") {
            assert!(["new", "unchanged"].contains(&state.as_str().unwrap()));
        }
    }
}

#[test]
fn sarif_has_what_its_schema_requires() {
    check(&sarif_of(&empty()));
    let mut report = empty();
    report.findings = Severity::ALL.into_iter().map(|severity| finding("GRD-PG-001", severity, severity.as_str())).collect();
    let plain = sarif_of(&report);
    check(&plain);
    let levels: Vec<_> = plain["runs"][0]["results"].as_array().unwrap().iter().map(|it| it["level"].clone()).collect();
    assert_eq!(levels, ["note", "note", "warning", "error", "error"]);
    assert!(plain["runs"][0]["results"].as_array().unwrap().iter().all(|result| result.get("baselineState").is_none()));
    report.known = vec![finding("GRD-PG-002", Severity::High, "old")];
    report.excepted = vec![Excepted {
        finding: finding("GRD-PG-003", Severity::High, "allowed"),
        reason: "it is a test".to_owned(),
        until: "2027-01-31".parse().unwrap(),
        origin: "guardian-audit.toml:3".to_owned(),
    }];
    let full = sarif_of(&report);
    check(&full);
    let results = full["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.iter().filter(|result| result["baselineState"] == "new").count(), 6);
    assert_eq!(results.iter().filter(|result| result["baselineState"] == "unchanged").count(), 1);
    let suppressed: Vec<_> = results.iter().filter(|result| result.get("suppressions").is_some()).collect();
    assert_eq!(suppressed.len(), 1);
    assert_eq!(suppressed[0]["suppressions"][0]["justification"], "it is a test (until 2027-01-31, guardian-audit.toml:3)");
}

#[test]
fn sarif_tells_what_attacks_showed() {
    let mut report = empty();
    report.attack = Some(attack("orders"));
    report.known = vec![finding("GRD-PG-002", Severity::High, "old")];
    let log = sarif_of(&report);
    check(&log);
    let results = log["runs"][0]["results"].as_array().unwrap();
    let attacked: Vec<_> = results.iter().filter(|result| result["ruleId"] == "GRD-ATTACK").collect();
    let stand =
        |at: usize| [&attacked[at]["kind"], &attacked[at]["level"], &attacked[at]["baselineState"]].map(Value::to_string);
    assert_eq!(attacked.len(), 2, "what is proven is no alert");
    assert_eq!(stand(0), [r#""fail""#, r#""error""#, r#""new""#]);
    assert_eq!(stand(1), [r#""open""#, r#""none""#, r#""new""#]);
    let reproduced = &attacked[0]["properties"]["attempts"][0]["reproduce"];
    assert_eq!(*reproduced, serde_json::json!(["SET ROLE orders", "SELECT * FROM orders"]));
    assert_eq!(attacked[1]["properties"]["attempts"].as_array().unwrap().len(), 1, "what held is no reason");
    let proven = log["runs"][0]["properties"]["attack"]["provenIsolated"].as_array().unwrap();
    assert_eq!((proven.len(), &proven[0]["fullyQualifiedName"]), (1, &Value::from("isolated.orders")));
    assert_eq!(sarif_of(&empty())["runs"][0]["properties"]["attack"], Value::Null);
}

#[test]
fn junit_tells_what_attacks_showed() {
    let mut report = empty();
    report.attack = Some(attack("orders"));
    let told = |report: &guardian_audit::Report| {
        let text = render(report, Format::Junit, None).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let attacked = document.descendants().filter(|node| node.attribute("classname") == Some("attack"));
        let outcomes: Vec<_> = attacked
            .map(|case| case.children().find(roxmltree::Node::is_element).map(|node| node.tag_name().name().to_owned()))
            .collect();
        let counts = ["failures", "errors"].map(|name| document.root_element().attribute(name).unwrap().to_owned());
        let failure = document.descendants().find(|node| node.has_tag_name("failure")).and_then(|node| node.text());
        (outcomes, counts, failure.map(str::to_owned))
    };
    let (outcomes, counts, failure) = told(&report);
    assert_eq!(outcomes, [Some("failure".to_owned()), Some("skipped".to_owned()), None]);
    assert_eq!(counts, ["1", "0"]);
    assert_eq!(failure.as_deref(), Some("SET ROLE orders;\nSELECT * FROM orders;"));
    // Attacks that proved nothing are no verdict.
    report.attack.as_mut().unwrap().objects.retain(|one| one.verdict == guardian_audit::attacks::Verdict::NotShown);
    assert_eq!(told(&report), (vec![Some("error".to_owned())], ["0".to_owned(), "1".to_owned()], None));
}

#[test]
fn markdown_tells_what_attacks_showed() {
    let mut report = empty();
    report.attack = Some(attack("orders"));
    let text = render(&report, Format::Markdown, None).unwrap();
    for wanted in [
        "- Outcome: 1 leaks, 1 not shown, 1 proven isolated\n",
        "\n### Leaks: table `leaking.orders` as `app orders`\n\n- Rules: GRD-PG-001\n- read tenant B's rows, leaks: `it is of orders`\n\n\
         ```sql\nSET ROLE orders;\nSELECT * FROM orders;\n```\n",
        "\n### Not shown: table `unknown.orders` as `app orders`\n\n- Rules: GRD-PG-001\n- read tenant B's rows, not shown: `it is of orders`\n",
        "\n### Proven isolated: table `isolated.orders` as `app orders`\n\n- Rules: GRD-PG-001\n- 2 attacks of 1 kinds, each with its control\n",
    ] {
        assert!(text.contains(wanted), "{wanted:?} not in {text}");
    }
}

#[test]
fn every_rule_has_a_description_in_sarif() {
    let log = sarif_of(&empty());
    let described: Vec<_> =
        log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|rule| rule["id"].clone()).collect();
    assert_eq!(described, rules::ALL.iter().map(|rule| rule.id).collect::<Vec<_>>());
}

#[test]
fn junit_counts_what_it_lists() {
    let mut report = empty();
    report.findings = vec![finding("GRD-PG-001", Severity::Critical, "a"), finding("GRD-PG-001", Severity::Medium, "b")];
    let failures = |fail_on| {
        let text = render(&report, Format::Junit, fail_on).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let counted: usize = document.root_element().attribute("failures").unwrap().parse().unwrap();
        assert_eq!(document.descendants().filter(|node| node.has_tag_name("failure")).count(), counted);
        // One passed test each rule without a finding; of these, what is said of rules that did not run is an error instead.
        let cases = document.descendants().filter(|node| node.has_tag_name("testcase")).count();
        assert_eq!(cases, rules::ALL.len() - 2 + 2);
        counted
    };
    assert_eq!(failures(Some(Severity::High)), 1);
    assert_eq!(failures(Some(Severity::Low)), 2);
    assert_eq!(failures(None), 0);
}
