//! System catalogues: readable by every admitted session, so that clients can describe what they
//! see, except those that hold other people's data.

/// Holds values of rows (statistics; how far sequences have counted), statements and activity of other
/// sessions, secrets, large objects, or the server's files.
const DENIED: &[&str] = &[
    "pg_authid",
    "pg_shadow",
    "pg_group",
    "pg_auth_members",
    "pg_sequences",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_largeobject",
    "pg_largeobject_metadata",
    "pg_user_mapping",
    "pg_user_mappings",
    "pg_foreign_server",
    "pg_foreign_data_wrapper",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_file_settings",
    "pg_settings",
    "pg_db_role_setting",
    "pg_subscription",
    "pg_subscription_rel",
    "pg_config",
    "pg_cursors",
    "pg_prepared_statements",
    "pg_prepared_xacts",
    "pg_locks",
    "pg_backend_memory_contexts",
    "pg_shmem_allocations",
    "pg_replication_slots",
    "pg_replication_origin",
    "pg_replication_origin_status",
    "user_mapping_options",
    "user_mappings",
    "_pg_user_mappings",
    "foreign_server_options",
    "foreign_data_wrapper_options",
];

/// `name` in a system schema.
pub(super) fn is_readable(schema: &str, name: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema")
        && !DENIED.contains(&name)
        // pg_stat_activity, pg_statio_…, and whatever later versions add under the same prefix; not
        // the definitions of extended statistics, which `\\d` shows.
        && (name == "pg_statistic_ext" || !name.starts_with("pg_stat"))
}
