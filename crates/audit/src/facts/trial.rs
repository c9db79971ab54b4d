//! Tries predicates on rows that do not exist: which rows, in which contexts, and what the answers mean.
//!
//! One DO block tries many predicates, because an error in one must not end the others and a savepoint each by the client would
//! cost a round trip each. It runs in the collector's read-only transaction and writes nothing: the answers come back in a
//! setting of the transaction. Predicates that read the same are tried once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use guardian_postgres::quote::{ident, literal};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    collect::{execute, text_of},
    truth::{Flag, Predicate, PredicateColumn, Rows, Truth},
};

/// Predicates of one DO block.
const BATCH_LEN: usize = 50;
/// For all of them together; what is left then is undecided.
const TIME_MAX: Duration = Duration::from_mins(1);
/// Constants of a predicate that are tried as values.
const CONSTANTS_MAX: usize = 6;

/// The keys of the two tenants, as a UUID and as a number that fits every numeric type.
const TENANTS: [[&str; 2]; 2] =
    [["0190b6a0-0000-7000-8000-00000000a001", "7001"], ["0190b6a0-0000-7000-8000-00000000b002", "7002"]];
const FLAGS: [&str; 6] = ["on", "true", "1", "yes", "admin", ""];
/// Settings without a dot that are tried too. All others of that kind steer the server and are left alone.
const TRIED: [&str; 2] = ["backtrace_functions", "application_name"];

/// The answers of a row: `t` true, `f` false or null, `e` an error; `x` alone: the context could not be entered.
const TRY: &str = "DO $guardian$
DECLARE job jsonb; context jsonb; pair jsonb; row_sql text; one text; answer text; answers jsonb; found jsonb := '[]';
BEGIN
  FOR job IN SELECT value FROM jsonb_array_elements(current_setting('guardian_audit.jobs')::jsonb) LOOP
    answers := '[]';
    FOR context IN SELECT value FROM jsonb_array_elements(job -> 'contexts') LOOP
      answer := NULL;
      BEGIN
        FOR pair IN SELECT value FROM jsonb_array_elements(context) LOOP
          PERFORM set_config(pair ->> 0, pair ->> 1, true);
        END LOOP;
        IF job ? 'role' THEN EXECUTE format('SET LOCAL ROLE %I', job ->> 'role'); END IF;
      EXCEPTION WHEN OTHERS THEN answer := 'x';
      END;
      IF answer IS NULL THEN
        BEGIN
          EXECUTE job ->> 'all' INTO answer;
        EXCEPTION WHEN OTHERS THEN
          answer := '';
          FOR row_sql IN SELECT value FROM jsonb_array_elements_text(job -> 'rows') LOOP
            BEGIN
              EXECUTE row_sql INTO one;
            EXCEPTION WHEN OTHERS THEN one := 'e';
            END;
            answer := answer || one;
          END LOOP;
        END;
      END IF;
      IF job ? 'role' THEN RESET ROLE; END IF;
      answers := answers || to_jsonb(answer);
    END LOOP;
    found := found || jsonb_build_array(answers);
  END LOOP;
  PERFORM set_config('guardian_audit.answers', found::text, true);
END $guardian$";

/// Whose a made-up row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    First,
    Second,
    /// Its keys are null.
    Nobody,
    /// Its keys are empty.
    Empty,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    whose: Whose,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unset,
    Empty,
    First,
    Flag,
}

#[derive(Debug, Clone)]
struct Context {
    kind: Kind,
    settings: Vec<(String, String)>,
    flag: Option<Flag>,
}

/// One predicate to try: its rows and contexts, and its answers as they come.
struct Trial {
    predicate: Predicate,
    role: Option<String>,
    rows: Vec<Row>,
    contexts: Vec<Context>,
    answers: Vec<String>,
    failed: Option<String>,
}

/// Tries them all. `roles` are the application's: what asks for the current role is tried as each of them, or not at all.
pub(super) async fn evaluate(
    connection: &mut PgConnection,
    predicates: Vec<Predicate>,
    roles: &[String],
) -> Result<Vec<Truth>, sqlx::Error> {
    let free = settable(connection, &predicates).await?;
    let mut trials: Vec<Trial> = Vec::new();
    let mut same: HashMap<String, Vec<usize>> = HashMap::new();
    // For each predicate its trials; none: undecided, for the reason.
    let mut of_each: Vec<(Truth, Vec<usize>)> = Vec::new();
    for predicate in predicates {
        let truth = Truth {
            policy: predicate.policy,
            predicate: predicate.kind,
            settings: predicate.settings.clone(),
            by_role: predicate.by_role,
            undecided: refusal(&predicate, &free, roles),
            ..Truth::default()
        };
        let indexes = if truth.undecided.is_some() {
            Vec::new()
        } else {
            same.entry(key(&predicate))
                .or_insert_with(|| {
                    let as_roles: Vec<Option<String>> =
                        if predicate.by_role { roles.iter().cloned().map(Some).collect() } else { vec![None] };
                    let start = trials.len();
                    trials.extend(as_roles.into_iter().map(|role| Trial::new(predicate.clone(), role, &free)));
                    (start..trials.len()).collect()
                })
                .clone()
        };
        of_each.push((truth, indexes));
    }
    // Unset contexts come first: a setting that was set once is never unset again.
    let end = Instant::now() + TIME_MAX;
    run(connection, &mut trials, |kind| kind == Kind::Unset, end).await?;
    run(connection, &mut trials, |kind| kind != Kind::Unset, end).await?;
    let verdicts: Vec<Truth> = trials.iter().map(Trial::verdict).collect();
    let worst = |(mut truth, indexes): (Truth, Vec<usize>)| {
        for (at, verdict) in indexes.into_iter().map(|index| &verdicts[index]).enumerate() {
            truth.add(verdict, at == 0);
        }
        truth
    };
    Ok(of_each.into_iter().map(worst).collect())
}

/// What makes two predicates the same. The table's name counts only where the expression uses it.
fn key(predicate: &Predicate) -> String {
    let alias = if predicate.expression.contains(&format!("{}.", predicate.alias)) { predicate.alias.as_str() } else { "" };
    format!("{}\0{alias}\0{:?}", predicate.expression, predicate.columns)
}

/// The settings that may be set to try a predicate, with whether each is unset as the session began.
async fn settable(connection: &mut PgConnection, predicates: &[Predicate]) -> Result<BTreeMap<String, bool>, sqlx::Error> {
    let names: BTreeSet<&str> = predicates.iter().flat_map(|predicate| &predicate.settings).map(String::as_str).collect();
    let list = literal(&json!(names).to_string());
    let tried = TRIED.map(literal).join(", ");
    let sql = format!(
        "SELECT coalesce(json_object_agg(n, coalesce(current_setting(n, true), '') = ''), '{{}}')::text \
         FROM json_array_elements_text({list}) AS n WHERE lower(n) IN ({tried}) \
           OR strpos(n, '.') > 0 AND n ~ '^[A-Za-z0-9_.$]+$' AND NOT EXISTS (SELECT FROM pg_settings WHERE lower(name) = lower(n))"
    );
    let text = text_of(connection, &sql).await?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn refusal(predicate: &Predicate, free: &BTreeMap<String, bool>, roles: &[String]) -> Option<String> {
    let fixed = predicate.settings.iter().find(|name| !free.contains_key(*name));
    let by_setting = || fixed.map(|name| format!("it reads the setting {name}, which is not tried"));
    let by_role = || (predicate.by_role && roles.is_empty()).then(|| "it depends on the role that runs it".to_owned());
    predicate.refused.clone().or_else(by_setting).or_else(by_role)
}

/// Runs the contexts of one phase, many predicates a statement; where a statement fails, each predicate by itself.
async fn run(
    connection: &mut PgConnection,
    trials: &mut [Trial],
    phase: fn(Kind) -> bool,
    end: Instant,
) -> Result<(), sqlx::Error> {
    let late = |trial: &mut Trial| trial.failed = Some("the time for trying predicates was used up".to_owned());
    for batch in trials.chunks_mut(BATCH_LEN) {
        if Instant::now() >= end {
            batch.iter_mut().for_each(late);
            continue;
        }
        if attempt(connection, batch, phase, "20s").await?.is_some() {
            for trial in batch.chunks_mut(1) {
                if Instant::now() >= end {
                    late(&mut trial[0]);
                } else if let Some(reason) = attempt(connection, trial, phase, "2s").await? {
                    trial[0].failed = Some(format!("it could not be tried: {reason}"));
                }
            }
        }
    }
    Ok(())
}

/// Yields why it failed, if it did; the transaction goes on.
async fn attempt(
    connection: &mut PgConnection,
    trials: &mut [Trial],
    phase: fn(Kind) -> bool,
    timeout: &str,
) -> Result<Option<String>, sqlx::Error> {
    let jobs: Vec<Value> = trials.iter().map(|trial| trial.job(phase)).collect();
    let jobs = literal(&Value::Array(jobs).to_string());
    execute(connection, &format!("SAVEPOINT trial; SET LOCAL statement_timeout = '{timeout}'")).await?;
    let tried = execute(connection, &format!("SELECT set_config('guardian_audit.jobs', {jobs}, true); {TRY}")).await;
    let answers = match tried {
        Ok(()) => text_of(connection, "SELECT current_setting('guardian_audit.answers')").await,
        Err(error) => Err(error),
    };
    // It also undoes the settings that were tried.
    execute(connection, "ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial").await?;
    match answers {
        Ok(text) => {
            let answers: Vec<Vec<String>> =
                serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            for (trial, answers) in trials.iter_mut().zip(answers) {
                trial.answers.extend(answers);
            }
            Ok(None)
        }
        Err(sqlx::Error::Database(error)) => Ok(Some(error.message().to_owned())),
        Err(error) => Err(error),
    }
}

impl Trial {
    fn new(predicate: Predicate, role: Option<String>, free: &BTreeMap<String, bool>) -> Self {
        let rows = rows(&predicate);
        let contexts = contexts(&predicate, free);
        Self { predicate, role, rows, contexts, answers: Vec::new(), failed: None }
    }

    fn job(&self, phase: fn(Kind) -> bool) -> Value {
        let Predicate { expression, columns, alias, .. } = &self.predicate;
        let select = |row: &Row| {
            let cell = |(column, value): (&PredicateColumn, &String)| {
                format!("{value}::{} AS {}", column.written_type, ident(&column.name))
            };
            let cells: Vec<String> = columns.iter().zip(&row.values).map(cell).collect();
            format!("SELECT CASE WHEN ({expression}) THEN 't' ELSE 'f' END FROM (SELECT {}) AS {alias}", cells.join(", "))
        };
        let rows: Vec<String> = self.rows.iter().map(select).collect();
        let all = format!("SELECT ({})", rows.join(") || ("));
        let contexts: Vec<&Vec<(String, String)>> =
            self.contexts.iter().filter(|context| phase(context.kind)).map(|context| &context.settings).collect();
        let mut job = json!({"all": all, "rows": rows, "contexts": contexts});
        if let Some(role) = &self.role {
            job["role"] = json!(role);
        }
        job
    }

    /// What the answers mean.
    fn verdict(&self) -> Truth {
        let undecided = |reason: String| Truth { undecided: Some(reason), ..Truth::default() };
        if let Some(reason) = &self.failed {
            return undecided(reason.clone());
        }
        if self.answers.len() != self.contexts.len() {
            return undecided("it could not be tried".to_owned());
        }
        let of = |kind: Kind| self.answered().filter(move |(context, _)| context.kind == kind);
        if of(Kind::First).next().is_none() {
            return undecided(match (&self.role, self.predicate.settings.first()) {
                (Some(role), _) => format!("it depends on the role, and the collector may not become {role}"),
                (None, Some(setting)) => format!("the collector may not set {setting}"),
                (None, None) => "it could not be tried".to_owned(),
            });
        }
        let cells = |answers: &str, whose: Whose| -> Vec<char> {
            self.rows.iter().zip(answers.chars()).filter(|(row, _)| row.whose == whose).map(|(_, answer)| answer).collect()
        };
        let mut within = of(Kind::First).chain(of(Kind::Flag));
        if within.all(|(_, answers)| answers.chars().all(|answer| answer == 'e')) {
            return undecided("it raises an error for every row in every context tried".to_owned());
        }
        let seconds = |answers: &str| how_many(&cells(answers, Whose::Second));
        let tenants = |answers: &str| how_many(&[cells(answers, Whose::First), cells(answers, Whose::Second)].concat());
        let outside = || of(Kind::Unset).chain(of(Kind::Empty));
        let is_true = |answers: &str, whose: Whose| cells(answers, whose).contains(&'t');
        // A comparison with a null is not worked out, and raises nothing.
        let fails = |answers: &str| {
            [Whose::First, Whose::Second].iter().all(|whose| cells(answers, *whose).iter().all(|answer| *answer == 'e'))
        };
        let raises = |kind: Kind| of(kind).next().is_some() && of(kind).all(|(_, answers)| fails(answers));
        Truth {
            always_true: self.answered().all(|(_, answers)| answers.chars().all(|answer| answer == 't')),
            other_tenant: of(Kind::First).map(|(_, answers)| seconds(answers)).max().unwrap_or_default(),
            without_context: outside().map(|(_, answers)| tenants(answers)).max().unwrap_or_default(),
            own_tenant: of(Kind::First).any(|(_, answers)| is_true(answers, Whose::First)),
            true_on_null: of(Kind::First).any(|(_, answers)| is_true(answers, Whose::Nobody)),
            true_on_empty: of(Kind::Empty).any(|(_, answers)| is_true(answers, Whose::Empty)),
            raises_when_empty: raises(Kind::Empty) && of(Kind::Unset).next().is_some() && !raises(Kind::Unset),
            opened_by: self.opened_by(),
            ..Truth::default()
        }
    }

    /// The contexts that could be entered. A setting may refuse a value, and does so in its place too.
    fn answered(&self) -> impl Iterator<Item = (&Context, &String)> {
        self.contexts.iter().zip(&self.answers).filter(|(_, answers)| *answers != "x")
    }

    /// The flags with which a row of the second tenant is true that is not in any context without one.
    fn opened_by(&self) -> Vec<Flag> {
        let open = |at: usize, answers: &String| answers.as_bytes().get(at) == Some(&b't');
        let shut: Vec<usize> = (0..self.rows.len())
            .filter(|at| self.rows[*at].whose == Whose::Second)
            .filter(|at| self.answered().all(|(context, answers)| context.kind != Kind::First || !open(*at, answers)))
            .collect();
        let mut found: BTreeMap<&str, &Flag> = BTreeMap::new();
        for (context, answers) in self.answered() {
            let Some(flag) = &context.flag else { continue };
            // A row that holds the value may be true because it is equal to it.
            let equal = |at: &usize| self.rows[*at].values.iter().any(|value| *value == literal(&flag.value));
            if shut.iter().filter(|at| !equal(at)).any(|at| open(*at, answers)) {
                found.entry(flag.setting.as_str()).or_insert(flag);
            }
        }
        found.into_values().cloned().collect()
    }
}

impl Truth {
    /// Takes the worse of two verdicts on one predicate.
    fn add(&mut self, other: &Self, first: bool) {
        self.always_true = other.always_true || (self.always_true && !first);
        self.other_tenant = self.other_tenant.max(other.other_tenant);
        self.without_context = self.without_context.max(other.without_context);
        self.own_tenant |= other.own_tenant;
        self.true_on_null |= other.true_on_null;
        self.true_on_empty |= other.true_on_empty;
        self.raises_when_empty |= other.raises_when_empty;
        for flag in &other.opened_by {
            if !self.opened_by.contains(flag) {
                self.opened_by.push(flag.clone());
            }
        }
        self.undecided = self.undecided.take().or_else(|| other.undecided.clone());
    }
}

fn how_many(answers: &[char]) -> Rows {
    match answers.iter().filter(|answer| **answer == 't').count() {
        0 => Rows::None,
        count if count == answers.len() => Rows::All,
        _ => Rows::Some,
    }
}

/// The rows: each tenant's with every mixture of the others, and without repetition.
fn rows(predicate: &Predicate) -> Vec<Row> {
    let mut rows = BTreeSet::new();
    let mut add = |whose: Whose, text: Option<&str>, number: Option<&str>, other: Option<bool>| {
        let value = |column: &PredicateColumn| cell(predicate, column, whose, text, number, other);
        rows.insert(Row { whose, values: predicate.columns.iter().map(value).collect() });
    };
    for (whose, keys) in [(Whose::First, TENANTS[0]), (Whose::Second, TENANTS[1])] {
        for text in keys {
            for other in [Some(false), Some(true), None] {
                add(whose, Some(text), Some(keys[1]), other);
            }
        }
    }
    for other in [Some(false), Some(true), None] {
        add(Whose::Nobody, None, None, other);
        add(Whose::Empty, Some(""), Some("0"), other);
    }
    for other in [false, true] {
        for text in constants(predicate) {
            add(Whose::Second, Some(text), Some(TENANTS[1][1]), Some(other));
        }
        for number in predicate.numbers.iter().take(CONSTANTS_MAX).filter(|number| number.len() < 5) {
            add(Whose::Second, Some(TENANTS[1][0]), Some(number), Some(other));
        }
    }
    rows.into_iter().collect()
}

/// The string constants that may be values: not the names of settings, and not a key.
fn constants(predicate: &Predicate) -> impl Iterator<Item = &str> {
    let Predicate { texts, settings, object_keys, text_keys, .. } = predicate;
    let names = move |text: &&String| [settings, object_keys, text_keys].iter().any(|list| list.contains(text));
    texts.iter().filter(move |text| !names(text) && !text.is_empty()).map(String::as_str).take(CONSTANTS_MAX)
}

/// A value in SQL, without its cast.
fn cell(
    predicate: &Predicate,
    column: &PredicateColumn,
    whose: Whose,
    text: Option<&str>,
    number: Option<&str>,
    other: Option<bool>,
) -> String {
    let uuid = match whose {
        Whose::First => Some(TENANTS[0][0]),
        Whose::Second => Some(TENANTS[1][0]),
        Whose::Empty => Some("00000000-0000-0000-0000-000000000000"),
        Whose::Nobody => None,
    };
    let scalar = |oid| -> Option<String> {
        match oid {
            16 => other.map(|other| other.to_string()),
            20 | 21 | 23 | 26 | 700 | 701 | 1700 => number.map(str::to_owned),
            19 | 25 | 1042 | 1043 => text.map(str::to_owned),
            1082 | 1114 | 1184 => {
                other.map(|other| if other { "2999-01-01 00:00:00" } else { "1999-01-01 00:00:00" }.to_owned())
            }
            2950 => uuid.map(str::to_owned),
            114 | 3802 => text.map(|text| claims(predicate, text, None, "").to_string()),
            _ => None,
        }
    };
    let label =
        || column.labels.get(usize::from(other == Some(true) && column.labels.len() > 1)).filter(|_| other.is_some());
    let value = if column.element != 0 {
        scalar(column.element).map(|value| format!("{{{}}}", json!(value)))
    } else {
        scalar(column.type_oid).or_else(|| label().cloned())
    };
    value.map_or_else(|| "NULL".to_owned(), |value| literal(&value))
}

/// A JSON object in which every key that the predicate takes a text by has the value; one of them (`odd`) has another.
fn claims(predicate: &Predicate, value: &str, odd: Option<&str>, odd_value: &str) -> Value {
    let mut inner = json!({});
    for _ in 0..3 {
        let mut object = json!({});
        for key in &predicate.object_keys {
            object[key] = inner.clone();
        }
        for key in &predicate.text_keys {
            object[key] = json!(if odd == Some(key.as_str()) { odd_value } else { value });
        }
        inner = object;
    }
    inner
}

/// `backtrace_functions` takes no dashes; a UUID is one without them.
fn fitting(setting: &str, value: &str) -> String {
    if setting.eq_ignore_ascii_case(TRIED[0]) && TENANTS[0].contains(&value) {
        value.replace('-', "")
    } else {
        value.to_owned()
    }
}

fn contexts(predicate: &Predicate, free: &BTreeMap<String, bool>) -> Vec<Context> {
    let settings = &predicate.settings;
    let plain = |kind: Kind, settings: Vec<(String, String)>| Context { kind, settings, flag: None };
    let put = |name: &String, value: &str| (name.clone(), fitting(name, value));
    let every = |value: &str| settings.iter().map(|name| put(name, value)).collect::<Vec<_>>();
    let mut contexts = Vec::new();
    if settings.iter().all(|name| free.get(name) == Some(&true)) {
        contexts.push(plain(Kind::Unset, Vec::new()));
    }
    if settings.is_empty() {
        contexts.push(plain(Kind::First, Vec::new()));
        return contexts;
    }
    contexts.push(plain(Kind::Empty, every("")));
    let mut values: Vec<String> = TENANTS[0].map(str::to_owned).to_vec();
    let json = !predicate.text_keys.is_empty() || !predicate.object_keys.is_empty();
    if json {
        values.extend(TENANTS[0].map(|key| claims(predicate, key, None, "").to_string()));
    }
    let mut bases: Vec<Vec<(String, String)>> = values.iter().map(|value| every(value)).collect();
    // Two settings may be keys of two types.
    if let [one, two] = settings.as_slice() {
        for (left, right) in [(0, 1), (1, 0)] {
            bases.push(vec![put(one, &values[left]), put(two, &values[right])]);
        }
    }
    contexts.extend(bases.iter().map(|base| plain(Kind::First, base.clone())));
    let flags: BTreeSet<&str> = FLAGS.into_iter().chain(constants(predicate)).collect();
    for base in bases.iter().take(values.len()) {
        for setting in settings {
            for value in &flags {
                let flag = Flag { setting: setting.clone(), value: (*value).to_owned() };
                let with = |value: &str| {
                    let replace = |(name, old): &(String, String)| {
                        if name == setting { put(name, value) } else { (name.clone(), old.clone()) }
                    };
                    base.iter().map(replace).collect::<Vec<_>>()
                };
                contexts.push(Context { kind: Kind::Flag, settings: with(value), flag: Some(flag.clone()) });
                for (key, tenant) in predicate.text_keys.iter().flat_map(|key| TENANTS[0].map(|tenant| (key, tenant))) {
                    let object = claims(predicate, tenant, Some(key), value).to_string();
                    contexts.push(Context { kind: Kind::Flag, settings: with(&object), flag: Some(flag.clone()) });
                }
            }
        }
    }
    contexts
}
