//! `schema/*.cedarschema`: parsed by Cedar, and held to the rules that keep decisions answerable: own kinds
//! are classified, own actions are what identities do under the facts of a session, and nothing of the base
//! schema means something else than before.

use super::{Attribute, AttributeType, BASE_SCHEMA, OwnAction, OwnKind, Shape, Vocabulary};
use crate::action::Action;
use crate::declare::ColumnMode;
use crate::files::EstateFiles;
use crate::policy::{Place, at_label};
use crate::problem::Problem;
use crate::resource::ResourceKind;
use crate::word::Word;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{Entities, EntityUid, Schema, SchemaFragment};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// More than an organisation thinks of, and little enough for a solver.
const MOST_KINDS: usize = 100;
const MOST_ATTRIBUTES: usize = 64;
const MOST_BYTES: usize = 64 * 1024;
/// As deep as records and sets of a schema can stand in one another here: Cedar's parser recurses.
const MOST_BRACKETS: usize = 16;

/// Where the base schema takes on what an estate adds, by the name of the type that says it.
const HOOKS: [(&str, &str); 2] = [
    (
        "IdentityAttributes",
        "entity Identity in [Group] = { kind: String, owner: String",
    ),
    (
        "TableAttributes",
        "entity Table in [Schema, Group] = { classification: String, owner?: String",
    ),
];

/// The same of columns: each has what its table has.
const COLUMN_HOOK: &str = "entity Column in [Table] = { classification: String, owner?: String";
/// What applies to columns as well where the estate decides on them.
const BY_TABLE: &str = "action select, insert, update
  appliesTo { principal: [Identity], resource: [Table], context: Facts };";
const BY_COLUMN: &str = "action select, insert, update
  appliesTo { principal: [Identity], resource: [Table, Column], context: Facts };";

/// One file of `schema/`.
struct Own<'a> {
    file: &'a str,
    text: &'a str,
    fragment: SchemaFragment,
    json: Json,
}

impl Own<'_> {
    /// A problem at the line where `name` is declared.
    fn problem(
        &self,
        code: &'static str,
        keyword: &str,
        name: &str,
        message: impl Into<String>,
    ) -> Problem {
        Problem::new(code, self.file, self.line_of(keyword, name), message)
    }

    /// The first line of code that has `keyword` and after it `name` as words; 0 if none has.
    fn line_of(&self, keyword: &str, name: &str) -> u32 {
        let mut declares = false;
        for (number, line) in (1..).zip(self.text.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            let words = code.split(|letter: char| {
                letter.is_whitespace() || matches!(letter, ',' | ';' | '"' | '{' | '=' | '<' | '[')
            });
            for word in words.filter(|word| !word.is_empty()) {
                declares |= word == keyword;
                if declares && word == name {
                    return number;
                }
            }
            declares &= !code.trim_end().ends_with(';');
        }
        0
    }

    fn section(&self, name: &str) -> impl Iterator<Item = (&String, &Map<String, Json>)> {
        let namespace = self.json.get("");
        let section = namespace.and_then(|namespace| namespace.get(name));
        section
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name, value.as_object()?)))
    }
}

/// The problems of the files that do not parse.
pub(crate) fn unreadable(files: &EstateFiles) -> Vec<Problem> {
    own(files).err().unwrap_or_default()
}

pub(super) fn extend(files: &EstateFiles) -> Result<Vocabulary, Vec<Problem>> {
    let fragments = own(files)?;
    let columns = decides_columns(files);
    if fragments.is_empty() && !columns {
        return Vocabulary::base().map_err(|problem| vec![problem]);
    }
    let mut problems = Vec::new();
    check_names(&fragments, &mut problems);
    let kinds = kinds(&fragments, &mut problems);
    let [identity_attributes, table_attributes] =
        HOOKS.map(|(name, _)| hook(&fragments, name, &mut problems));
    for (name, attribute) in &table_attributes {
        if attribute.required {
            problems.extend(fragments.iter().find_map(|own| {
                let line = own.line_of("type", "TableAttributes");
                let message =
                    format!("`{name}` must be optional: tables that no file lists lack it");
                (line > 0).then(|| {
                    Problem::new("ESTATE-SCHEMA-TYPE", own.file, line, message)
                        .hint(format!("write `{name}?: …`"))
                })
            }));
        }
    }
    let declared = actions(&fragments, &kinds, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let schema = schema(&fragments, &identity_attributes, &table_attributes, columns)?;
    let (actions, groups) = place(&schema, declared).map_err(|problem| vec![problem])?;
    Ok(Vocabulary {
        schema,
        kinds,
        actions,
        groups,
        identity_attributes,
        table_attributes,
        columns,
    })
}

/// Of `estate.toml` the one line that changes what actions apply to. Whether the file is right is judged where
/// it is resolved.
fn decides_columns(files: &EstateFiles) -> bool {
    #[derive(serde::Deserialize)]
    struct Only {
        #[serde(default)]
        columns: ColumnMode,
    }
    let text = files.0.get("estate.toml");
    let only = text.and_then(|text| toml::from_str::<Only>(text).ok());
    only.is_some_and(|only| only.columns == ColumnMode::Decided)
}

fn own(files: &EstateFiles) -> Result<Vec<Own<'_>>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut fragments = Vec::new();
    for (file, text) in &files.0 {
        if !file.starts_with("schema/") {
            continue;
        }
        if text.len() > MOST_BYTES || brackets(text) > MOST_BRACKETS {
            let message =
                format!("at most {MOST_BYTES} bytes, and {MOST_BRACKETS} brackets one in another");
            problems.push(Problem::new("ESTATE-SCHEMA-LIMIT", file, 0, message));
            continue;
        }
        match SchemaFragment::from_cedarschema_str(text) {
            Err(error) => {
                let detailed = DetailedError::from(&error);
                let place = Place {
                    file,
                    line: 1,
                    column: 1,
                    text,
                };
                problems.push(at_label("ESTATE-SCHEMA-SYNTAX", &detailed, place));
            }
            Ok((fragment, _)) => match fragment.clone().to_json_value() {
                Ok(json) => fragments.push(Own {
                    file,
                    text,
                    fragment,
                    json,
                }),
                Err(error) => problems.push(Problem::new(
                    "ESTATE-SCHEMA-SYNTAX",
                    file,
                    0,
                    error.to_string(),
                )),
            },
        }
    }
    if problems.is_empty() {
        Ok(fragments)
    } else {
        Err(problems)
    }
}

fn brackets(text: &str) -> usize {
    let mut open = 0_usize;
    let mut deepest = 0;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' | b'<' => open += 1,
            b')' | b']' | b'}' | b'>' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// Nothing is declared in a namespace, twice, or under a name that the base schema has.
fn check_names(fragments: &[Own<'_>], problems: &mut Vec<Problem>) {
    let base = SchemaFragment::from_cedarschema_str(BASE_SCHEMA)
        .ok()
        .and_then(|(base, _)| base.to_json_value().ok());
    let in_base = |section: &str, name: &str| {
        let namespace = base.as_ref().and_then(|json| json.get(""));
        namespace
            .and_then(|namespace| namespace.get(section)?.get(name))
            .is_some()
    };
    let mut seen: HashMap<(&str, String), &str> = HashMap::new();
    for own in fragments {
        let spaces = own.json.as_object().into_iter().flatten();
        for (space, _) in spaces.filter(|(space, _)| !space.is_empty()) {
            let message = format!("the namespace `{space}` is not read");
            let problem = own.problem("ESTATE-SCHEMA-NAME", "namespace", space, message);
            problems.push(problem.hint("declare it without a namespace"));
        }
        for (section, keyword, taken) in [
            ("entityTypes", "entity", ["commonTypes", "entityTypes"]),
            ("commonTypes", "type", ["commonTypes", "entityTypes"]),
            ("actions", "action", ["actions", "actions"]),
        ] {
            for (name, _) in own.section(section) {
                if taken.into_iter().any(|taken| in_base(taken, name)) {
                    let message = format!("`{name}` is of the base schema and means what it means");
                    problems.push(own.problem("ESTATE-SCHEMA-NAME", keyword, name, message));
                } else if let Some(first) = seen.insert((keyword, name.clone()), own.file) {
                    let message = format!("`{name}` is declared in {first} already");
                    problems.push(own.problem("ESTATE-DUPLICATE", keyword, name, message));
                }
            }
        }
    }
}

fn kinds(fragments: &[Own<'_>], problems: &mut Vec<Problem>) -> BTreeMap<Word, OwnKind> {
    let mut found = BTreeMap::new();
    for own in fragments {
        for (name, declared) in own.section("entityTypes") {
            let mut refuse = |message: String, hint: &str| {
                let problem = own.problem("ESTATE-SCHEMA-KIND", "entity", name, message);
                problems.push(if hint.is_empty() {
                    problem
                } else {
                    problem.hint(hint)
                });
            };
            let Some(word) = Word::kind(name) else {
                let message = format!("`{name}` is no name for a kind of resources");
                refuse(
                    message,
                    "a capital letter, then at most 61 letters, digits and `_`",
                );
                continue;
            };
            if declared.contains_key("enum") {
                let message = format!("`{name}` lists its entities in the schema");
                refuse(message, "declare resources in resources/*.toml");
                continue;
            }
            match kind(declared, fragments) {
                Ok(kind) => {
                    found.insert(word, kind);
                }
                Err((message, hint)) => refuse(format!("`{name}` {message}"), hint),
            }
        }
    }
    if found.len() > MOST_KINDS {
        let message = format!("{} kinds of resources; at most {MOST_KINDS}", found.len());
        problems.push(Problem::new("ESTATE-SCHEMA-LIMIT", "schema", 0, message));
    }
    found
}

type Refusal = (String, &'static str);

fn kind(declared: &Map<String, Json>, fragments: &[Own<'_>]) -> Result<OwnKind, Refusal> {
    const CLASSIFIED: &str =
        "write `entity … = { classification: String, owner?: String } tags String;`";
    let labels = match declared.get("tags") {
        None => false,
        Some(tags) if type_name(tags) == Some("String") => true,
        Some(_) => {
            return Err((
                "has tags that are no texts".to_owned(),
                "write `tags String`",
            ));
        }
    };
    let mut shape = declared
        .get("shape")
        .map(record)
        .transpose()
        .map_err(|message| (message, "texts, integers, booleans, and sets of texts"))?
        .unwrap_or_default();
    match shape.remove("classification") {
        Some(Attribute {
            holds: AttributeType::Text,
            required: true,
        }) => {}
        _ => return Err(("has no `classification: String`".to_owned(), CLASSIFIED)),
    }
    let owner = match shape.remove("owner") {
        None => false,
        Some(Attribute {
            holds: AttributeType::Text,
            required: false,
        }) => true,
        Some(_) => {
            return Err((
                "has an `owner` that is not `owner?: String`".to_owned(),
                CLASSIFIED,
            ));
        }
    };
    let mut parents = BTreeSet::new();
    let mut in_groups = false;
    let above = declared.get("memberOfTypes").and_then(Json::as_array);
    for parent in above.into_iter().flatten().filter_map(Json::as_str) {
        if parent == "Group" {
            in_groups = true;
            continue;
        }
        let declared = |own: &Own<'_>| own.section("entityTypes").any(|(name, _)| name == parent);
        match ResourceKind::from_type_name(parent) {
            Some(kind @ ResourceKind::Own(_)) if fragments.iter().any(declared) => {
                parents.insert(kind);
            }
            Some(kind) if kind.is_classified() && !matches!(kind, ResourceKind::Own(_)) => {
                parents.insert(kind);
            }
            _ => {
                let message = format!("lies in `{parent}`, which is no kind of resources");
                return Err((message, "a resource lies in resources and in `Group`"));
            }
        }
    }
    Ok(OwnKind {
        parents,
        in_groups,
        labels,
        owner,
        shape,
    })
}

/// The attributes of a record, each of a type that a declaration can give.
fn record(shape: &Json) -> Result<Shape, String> {
    if type_name(shape) != Some("Record") {
        return Err("is not written as a record of its attributes".to_owned());
    }
    let attributes = shape.get("attributes").and_then(Json::as_object);
    let mut found = Shape::new();
    for (name, declared) in attributes.into_iter().flatten() {
        let element = || declared.get("element").and_then(type_name);
        let holds = match type_name(declared) {
            Some("String") => AttributeType::Text,
            Some("Long") => AttributeType::Integer,
            Some("Bool" | "Boolean") => AttributeType::Bool,
            Some("Set") if element() == Some("String") => AttributeType::Texts,
            _ => {
                return Err(format!(
                    "has `{name}`, of a type that no declaration can give"
                ));
            }
        };
        let required = declared.get("required").and_then(Json::as_bool) != Some(false);
        found.insert(name.clone(), Attribute { holds, required });
    }
    if found.len() > MOST_ATTRIBUTES {
        return Err(format!(
            "has {} attributes; at most {MOST_ATTRIBUTES}",
            found.len()
        ));
    }
    Ok(found)
}

/// Of `{"type": "EntityOrCommon", "name": "String"}` the name, of `{"type": "Set", …}` the type.
fn type_name(declared: &Json) -> Option<&str> {
    match declared.get("type")?.as_str()? {
        "EntityOrCommon" | "Entity" => declared.get("name")?.as_str(),
        other => Some(other),
    }
}

fn hook(fragments: &[Own<'_>], name: &str, problems: &mut Vec<Problem>) -> Shape {
    for own in fragments {
        for (_, declared) in own.section("commonTypes").filter(|(own, _)| *own == name) {
            match record(&Json::Object(declared.clone())) {
                Ok(shape) => return shape,
                Err(message) => {
                    let message = format!("`{name}` {message}");
                    let problem = own.problem("ESTATE-SCHEMA-TYPE", "type", name, message);
                    problems.push(problem.hint("texts, integers, booleans, and sets of texts"));
                }
            }
        }
    }
    Shape::new()
}

/// What an action can be done to; nothing of a group of actions.
type Declared = BTreeMap<String, Vec<ResourceKind>>;

fn actions(
    fragments: &[Own<'_>],
    kinds: &BTreeMap<Word, OwnKind>,
    problems: &mut Vec<Problem>,
) -> Declared {
    let mut found = Declared::new();
    for own in fragments {
        for (name, declared) in own.section("actions") {
            match action(name, declared, kinds) {
                Ok(kinds) => {
                    found.insert(name.clone(), kinds);
                }
                Err((message, hint)) => {
                    let message = format!("`{name}` {message}");
                    let problem = own.problem("ESTATE-SCHEMA-ACTION", "action", name, message);
                    problems.push(problem.hint(hint));
                }
            }
        }
    }
    if found.len() > Vocabulary::MOST_ACTIONS {
        let message = format!(
            "{} actions; at most {}",
            found.len(),
            Vocabulary::MOST_ACTIONS
        );
        problems.push(Problem::new("ESTATE-SCHEMA-LIMIT", "schema", 0, message));
    }
    found
}

fn action(
    name: &str,
    declared: &Map<String, Json>,
    kinds: &BTreeMap<Word, OwnKind>,
) -> Result<Vec<ResourceKind>, Refusal> {
    const FORM: &str = "write `appliesTo { principal: [Identity], resource: […], context: Facts }`";
    if Word::action(name).is_none() {
        let hint = "a small letter, then at most 61 letters, digits, `-`, `_`, `.` and `:`";
        return Err(("is no name for an action".to_owned(), hint));
    }
    let above = declared.get("memberOf").and_then(Json::as_array);
    for parent in above.into_iter().flatten() {
        let id = parent.get("id").and_then(Json::as_str).unwrap_or_default();
        if Action::BASE.iter().any(|action| action.as_str() == id) {
            let message = format!("is in `{id}`, which is no group of actions");
            return Err((message, "declare a group: `action reads;`"));
        }
    }
    let Some(applies) = declared
        .get("appliesTo")
        .filter(|applies| !applies.is_null())
    else {
        return Ok(Vec::new());
    };
    let texts = |key: &str| -> Vec<&str> {
        let list = applies.get(key).and_then(Json::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect()
    };
    // What is done by nobody and to nothing stands for the actions that are in it.
    if texts("principalTypes").is_empty() && texts("resourceTypes").is_empty() {
        return Ok(Vec::new());
    }
    if texts("principalTypes") != ["Identity"] {
        return Err(("is done by others than identities".to_owned(), FORM));
    }
    if applies.get("context").and_then(type_name) != Some("Facts") {
        return Err(("is not done under the facts of a session".to_owned(), FORM));
    }
    let mut found = Vec::new();
    for name in texts("resourceTypes") {
        match ResourceKind::from_type_name(name) {
            Some(ResourceKind::Own(word)) if kinds.contains_key(&word) => {
                found.push(ResourceKind::Own(word));
            }
            Some(kind) if kind.is_classified() && !matches!(kind, ResourceKind::Own(_)) => {
                found.push(kind);
            }
            _ => {
                let message = format!("is done to `{name}`, which is no kind of resources");
                return Err((message, FORM));
            }
        }
    }
    if found.is_empty() {
        return Err(("is done to nothing".to_owned(), FORM));
    }
    found.sort();
    Ok(found)
}

fn schema(
    fragments: &[Own<'_>],
    identities: &Shape,
    tables: &Shape,
    columns: bool,
) -> Result<Schema, Vec<Problem>> {
    let mut base = BASE_SCHEMA.to_owned();
    for ((name, place), shape) in HOOKS.into_iter().zip([identities, tables]) {
        if !shape.is_empty() {
            base = base.replace(place, &format!("{place}, attributes: {name}"));
        }
    }
    if !tables.is_empty() {
        base = base.replace(
            COLUMN_HOOK,
            &format!("{COLUMN_HOOK}, attributes: TableAttributes"),
        );
    }
    if columns {
        base = base.replace(BY_TABLE, BY_COLUMN);
    }
    let (base, _) = SchemaFragment::from_cedarschema_str(&base)
        .map_err(|error| vec![Problem::new("ESTATE-SCHEMA", "", 0, error.to_string())])?;
    let own = fragments.iter().map(|own| own.fragment.clone());
    Schema::from_schema_fragments(std::iter::once(base).chain(own)).map_err(|error| {
        // Such as a type that no file declares: Cedar names it.
        let detailed = DetailedError::from(&error);
        let file = match fragments {
            [one] => one.file,
            _ => "schema",
        };
        let text = match fragments {
            [one] => one.text,
            _ => "",
        };
        // Of several, the whole folder is meant.
        let begins = u32::from(!text.is_empty());
        let place = Place {
            file,
            line: begins,
            column: begins,
            text,
        };
        vec![at_label("ESTATE-SCHEMA-TYPE", &detailed, place)]
    })
}

type Placed = (Vec<OwnAction>, BTreeMap<String, Vec<Action>>);

/// The declared actions with what Cedar knows of them, and the groups with their members, at whatever depth.
fn place(schema: &Schema, declared: Declared) -> Result<Placed, Problem> {
    let failed =
        |error: &dyn std::fmt::Display| Problem::new("ESTATE-SCHEMA", "", 0, error.to_string());
    let entities: Entities = schema.action_entities().map_err(|error| failed(&error))?;
    let mut actions = Vec::new();
    let mut groups: BTreeMap<String, Vec<Action>> = BTreeMap::new();
    for (name, kinds) in declared {
        if kinds.is_empty() {
            groups.entry(name).or_default();
            continue;
        }
        let action: Action = name.parse().map_err(|error| failed(&error))?;
        let uid = crate::entities::uid("Action", &name);
        let above: Vec<EntityUid> = entities
            .ancestors(&uid)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        for group in &above {
            groups
                .entry(group.id().unescaped().to_owned())
                .or_default()
                .push(action);
        }
        actions.push(OwnAction {
            action,
            entity: (!above.is_empty())
                .then(|| entities.get(&uid).cloned())
                .flatten(),
            uid,
            kinds,
        });
    }
    Ok((actions, groups))
}
