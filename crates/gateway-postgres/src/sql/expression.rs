//! Expressions: every function, operator and subquery in them. A node that is not listed refuses.

use super::access::Coverage;
use super::catalog::effective;
use super::functions;
use super::resolve::{Walker, unsupported};
use super::settings;
use estate::{Action, ResourceKind, ResourceRef};
use facts::Finding;
use pg_query::NodeEnum as N;
use pg_query::protobuf::{AExprKind, FuncCall, Node, TypeName, WindowDef, a_const};

/// Functions that run text or change how text is read: policy cannot allow them either, because
/// after them nobody knows what is touched.
const NEVER: &[&str] = &[
    "set_config",
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xmlschema",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xmlschema",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "pg_logical_emit_message",
];

/// The strings of a qualified name.
pub(super) fn names(nodes: &[Node]) -> Result<Vec<&str>, Finding> {
    nodes
        .iter()
        .map(|node| match node.node.as_ref() {
            Some(N::String(string)) => Ok(string.sval.as_str()),
            _ => Err(unsupported("this kind of name")),
        })
        .collect()
}

impl Walker<'_> {
    pub(super) fn expressions(&mut self, nodes: &[Node]) -> Result<(), Finding> {
        nodes.iter().try_for_each(|node| self.expression(node))
    }

    pub(super) fn optional(&mut self, node: Option<&Node>) -> Result<(), Finding> {
        node.map_or(Ok(()), |node| self.expression(node))
    }

    fn optionals<const COUNT: usize>(
        &mut self,
        nodes: [Option<&Node>; COUNT],
    ) -> Result<(), Finding> {
        nodes.into_iter().try_for_each(|node| self.optional(node))
    }

    pub(super) fn expression(&mut self, node: &Node) -> Result<(), Finding> {
        // An absent element of a list: the missing column list of a function in FROM.
        let Some(node) = node.node.as_ref() else {
            return Ok(());
        };
        self.deeper()?;
        self.node(node)?;
        self.depth -= 1;
        Ok(())
    }

    fn node(&mut self, node: &N) -> Result<(), Finding> {
        match node {
            N::AConst(_)
            | N::ParamRef(_)
            | N::SetToDefault(_)
            | N::AStar(_)
            | N::SqlvalueFunction(_)
            | N::CurrentOfExpr(_)
            | N::Integer(_)
            | N::Float(_)
            | N::Boolean(_)
            | N::String(_)
            | N::BitString(_) => Ok(()),
            N::ColumnRef(column) => {
                self.note_column(column);
                self.refer(column);
                match column.fields.as_slice() {
                    [_, .., last] => self.attribute(last),
                    _ => Ok(()),
                }
            }
            N::AExpr(operation) => {
                self.met.operators += 1;
                match AExprKind::try_from(operation.kind) {
                    Ok(
                        AExprKind::AexprBetween
                        | AExprKind::AexprNotBetween
                        | AExprKind::AexprBetweenSym
                        | AExprKind::AexprNotBetweenSym,
                    ) => self.implied(&[">=", "<=", "<", ">"]),
                    _ => self.operator(&operation.name)?,
                }
                self.optionals([operation.lexpr.as_deref(), operation.rexpr.as_deref()])
            }
            N::BoolExpr(boolean) => self.expressions(&boolean.args),
            N::FuncCall(call) => self.call(call),
            N::TypeCast(cast) => {
                self.type_name(cast.type_name.as_ref())?;
                self.cast_to(cast.type_name.as_ref())?;
                self.optional(cast.arg.as_deref())
            }
            N::CollateClause(collate) => self.optional(collate.arg.as_deref()),
            N::SubLink(link) => {
                // `IN (SELECT …)` is `= ANY`.
                if link.oper_name.is_empty() && link.testexpr.is_some() {
                    self.implied(&["="]);
                }
                self.operator(&link.oper_name)?;
                self.optional(link.testexpr.as_deref())?;
                match &link.subselect {
                    Some(query) => self.query(query),
                    None => Err(unsupported("an empty subquery")),
                }
            }
            N::CaseExpr(case) => {
                if case.arg.is_some() {
                    self.implied(&["="]);
                }
                self.optionals([case.arg.as_deref(), case.defresult.as_deref()])?;
                self.expressions(&case.args)
            }
            N::CaseWhen(when) => self.optionals([when.expr.as_deref(), when.result.as_deref()]),
            N::CoalesceExpr(coalesce) => self.expressions(&coalesce.args),
            N::MinMaxExpr(extreme) => self.expressions(&extreme.args),
            N::NullTest(test) => self.optional(test.arg.as_deref()),
            N::BooleanTest(test) => self.optional(test.arg.as_deref()),
            N::RowExpr(row) => self.expressions(&row.args),
            N::AArrayExpr(array) => self.expressions(&array.elements),
            N::AIndirection(indirection) => {
                self.optional(indirection.arg.as_deref())?;
                self.indirection(&indirection.indirection)
            }
            N::AIndices(indices) => {
                self.optionals([indices.lidx.as_deref(), indices.uidx.as_deref()])
            }
            N::NamedArgExpr(argument) => self.optional(argument.arg.as_deref()),
            N::ResTarget(target) => {
                // Left of `=` or in a column list: fields and subscripts, never calls.
                for part in &target.indirection {
                    if let Some(N::AIndices(_)) = part.node.as_ref() {
                        self.expression(part)?;
                    }
                }
                self.optional(target.val.as_deref())
            }
            N::MultiAssignRef(assignment) => self.optional(assignment.source.as_deref()),
            N::SortBy(sort) => {
                self.operator(&sort.use_op)?;
                self.optional(sort.node.as_deref())
            }
            N::WindowDef(window) => self.window(window),
            N::GroupingSet(set) => self.expressions(&set.content),
            N::GroupingFunc(grouping) => self.expressions(&grouping.args),
            N::List(list) => self.expressions(&list.items),
            N::XmlExpr(xml) => {
                self.expressions(&xml.named_args)?;
                self.expressions(&xml.args)
            }
            N::XmlSerialize(xml) => {
                self.type_name(xml.type_name.as_ref())?;
                self.optional(xml.expr.as_deref())
            }
            N::RangeTableFuncCol(column) => {
                self.type_name(column.type_name.as_ref())?;
                self.optionals([column.colexpr.as_deref(), column.coldefexpr.as_deref()])
            }
            // A column definition list: `AS (a int, b text)`.
            N::ColumnDef(column) => {
                self.type_name(column.type_name.as_ref())?;
                self.optional(column.raw_default.as_deref())?;
                self.expressions(&column.constraints)
            }
            N::IndexElem(element) => self.optional(element.expr.as_deref()),
            _ => Err(unsupported("an expression of this kind")),
        }
    }

    fn window(&mut self, window: &WindowDef) -> Result<(), Finding> {
        self.expressions(&window.partition_clause)?;
        self.expressions(&window.order_clause)?;
        self.optionals([window.start_offset.as_deref(), window.end_offset.as_deref()])
    }

    /// `(value).name`, `(value)[1]`: a name after a dot may be a call.
    fn indirection(&mut self, parts: &[Node]) -> Result<(), Finding> {
        for part in parts {
            match part.node.as_ref() {
                Some(N::String(_)) => self.attribute(part)?,
                _ => self.expression(part)?,
            }
        }
        Ok(())
    }

    /// PostgreSQL reads `('/etc/passwd'::text).pg_read_file` as a call.
    /// 4.2.6, 38.5.3: functional notation and attribute notation are the same.
    fn attribute(&mut self, node: &Node) -> Result<(), Finding> {
        let Some(N::String(string)) = node.node.as_ref() else {
            return Ok(());
        };
        let name = string.sval.as_str();
        let catalog = self.environment.catalog;
        let unsafe_builtin = catalog.is_system_function(name) && !functions::is_safe(name);
        let takes_it = |schema: &str| {
            catalog.functions_named(name).iter().any(|function| {
                function.schema == schema
                    && function.required <= 1
                    && function.most.is_none_or(|most| most >= 1)
            })
        };
        self.usable(takes_it)?;
        let own = effective(self.environment.search_path).any(takes_it);
        if unsafe_builtin || own {
            self.function(None, name, 1, &[])?;
        }
        Ok(())
    }

    /// A type whose values come to be: input, checks of domains and casts run for it.
    pub(super) fn type_name(&mut self, name: Option<&TypeName>) -> Result<(), Finding> {
        let Some(name) = name else { return Ok(()) };
        let known = names(&name.names)?;
        let opaque = match known.as_slice() {
            ["pg_catalog", _] => false,
            [.., own] => self.environment.catalog.is_opaque_type(own),
            [] => false,
        };
        if opaque {
            self.out.coverage = Coverage::Opaque;
            self.out.writes();
        }
        self.expressions(&name.typmods)
    }

    /// A cast that somebody defined runs a function.
    fn cast_to(&mut self, name: Option<&TypeName>) -> Result<(), Finding> {
        let known = name.map(|name| names(&name.names)).transpose()?;
        let Some(target) = known.as_ref().and_then(|names| names.last()) else {
            return Ok(());
        };
        for (schema, function) in self.environment.catalog.casts_to(target).to_vec() {
            self.execute(&schema, &function);
        }
        Ok(())
    }

    /// Operators that the grammar implies.
    pub(super) fn implied(&mut self, operators: &[&str]) {
        for name in operators {
            for (schema, function) in self.environment.catalog.operators_named(name).to_vec() {
                self.execute(&schema, &function);
            }
        }
    }

    /// Operators of `pg_catalog` are harmless; any other is a call of the function behind it.
    pub(super) fn operator(&mut self, name: &[Node]) -> Result<(), Finding> {
        let (schema, name) = match names(name)?.as_slice() {
            [] => return Ok(()),
            [name] => (None, *name),
            [schema, name] => (Some(*schema), *name),
            _ => return Err(unsupported("this operator")),
        };
        if schema == Some("pg_catalog") {
            return Ok(());
        }
        let behind = self.environment.catalog.operators_named(name).to_vec();
        for (schema, function) in behind {
            self.execute(&schema, &function);
        }
        Ok(())
    }

    pub(super) fn call(&mut self, call: &FuncCall) -> Result<(), Finding> {
        self.met.functions += 1;
        let (schema, name) = match names(&call.funcname)?.as_slice() {
            [name] => (None, *name),
            [schema, name] => (Some(*schema), *name),
            [database, schema, name] if *database == self.environment.catalog.database => {
                (Some(*schema), *name)
            }
            _ => return Err(unsupported("this function name")),
        };
        // Ordered-set aggregates take what they are ordered by as arguments too.
        let ordered = if call.agg_within_group {
            call.agg_order.len()
        } else {
            0
        };
        self.function(schema, name, call.args.len() + ordered, &call.args)?;
        self.expressions(&call.args)?;
        self.expressions(&call.agg_order)?;
        self.optional(call.agg_filter.as_deref())?;
        call.over
            .as_deref()
            .map_or(Ok(()), |window| self.window(window))
    }

    /// Whatever the name could lead to has to be allowed: overloads are chosen by types, which
    /// only the server knows.
    fn function(
        &mut self,
        schema: Option<&str>,
        name: &str,
        arguments: usize,
        values: &[Node],
    ) -> Result<(), Finding> {
        let catalog = self.environment.catalog;
        match schema {
            Some("pg_catalog") => return self.builtin(name, values),
            Some(schema) => {
                self.execute(schema, name);
                return Ok(());
            }
            None => {}
        }
        self.usable(|schema| catalog.knows_function(schema, name))?;
        let mut found = false;
        for schema in effective(self.environment.search_path) {
            if schema == "pg_catalog" {
                let known = functions::is_safe(name) || functions::is_grammar_only(name);
                if known || catalog.is_system_function(name) {
                    self.builtin(name, values)?;
                    found = true;
                }
                continue;
            }
            let fits = catalog.functions_named(name).iter().any(|function| {
                function.schema == schema
                    && function.required <= arguments
                    && function.most.is_none_or(|most| arguments <= most)
            });
            if fits {
                self.execute(schema, name);
                found = true;
            }
        }
        if !found {
            let first = self.environment.search_path.first().cloned();
            self.execute(&first.unwrap_or_else(|| "pg_catalog".to_owned()), name);
        }
        Ok(())
    }

    fn builtin(&mut self, name: &str, values: &[Node]) -> Result<(), Finding> {
        if functions::is_sequence(name) {
            return self.sequence(name, values);
        }
        if NEVER.contains(&name) {
            return Err(Finding::new(
                "SQL-FUNCTION",
                format!("{name} runs text or changes how text is read"),
            )
            .next("no policy can allow it; write the query itself"));
        }
        if !functions::is_safe(name) && !functions::is_grammar_only(name) {
            self.execute("pg_catalog", name);
        }
        Ok(())
    }

    /// `nextval('orders_id_seq')` counts as an insert into the table that the sequence feeds.
    fn sequence(&mut self, name: &str, values: &[Node]) -> Result<(), Finding> {
        self.out.writes();
        let Some(text) = values.first().and_then(literal) else {
            return Err(Finding::new(
                "SQL-SEQUENCE",
                format!("{name} of a sequence that the text does not name"),
            )
            .next("write the sequence's name as a literal"));
        };
        let (schema, sequence) = match text.split_once('.') {
            Some((schema, name)) => (Some(folded(schema)?), folded(name)?),
            None => (None, folded(text)?),
        };
        self.touch_name(schema.as_deref(), &sequence, Action::Insert, false)
    }

    fn execute(&mut self, schema: &str, name: &str) {
        self.work.spend(1);
        let database = self.environment.catalog.database.as_str();
        let resource =
            ResourceRef::from_segments(ResourceKind::Function, &[database, schema, name]);
        if !self.environment.catalog.knows_function(schema, name) {
            self.out.unknown.insert(resource.clone());
        }
        self.out
            .functions
            .insert((schema.to_owned(), name.to_owned()));
        self.out.touch(Action::Execute, resource);
        self.out.coverage = Coverage::Opaque;
        self.out.writes();
    }
}

/// The string of `'text'` or `'text'::regclass`.
fn literal(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        N::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(string) => Some(&string.sval),
            _ => None,
        },
        // A cast to anything else may make another name of it, or a number.
        N::TypeCast(cast) => match names(&cast.type_name.as_ref()?.names).ok()?.as_slice() {
            ["regclass" | "text"] | ["pg_catalog", "regclass" | "text"] => {
                literal(cast.arg.as_deref()?)
            }
            _ => None,
        },
        _ => None,
    }
}

/// One part of a name as `regclass` input reads it. It takes numbers for OIDs, drops white space around
/// a part and cuts long ones: nothing of the kind is a name here.
fn folded(part: &str) -> Result<String, Finding> {
    let quoted = part
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let name = quoted.map_or_else(|| part.to_ascii_lowercase(), str::to_owned);
    let plain = |letter: char| letter.is_ascii_alphabetic() || letter == '_' || !letter.is_ascii();
    let word = name.starts_with(plain)
        && name
            .chars()
            .all(|letter| plain(letter) || letter.is_ascii_digit() || letter == '$');
    if name.is_empty()
        || name.len() > settings::MAX_NAME
        || name.contains(['"', '.'])
        || (quoted.is_none() && !word)
    {
        return Err(
            Finding::new("SQL-SEQUENCE", "the sequence's name cannot be read")
                .observed(part.to_owned()),
        );
    }
    Ok(name)
}
