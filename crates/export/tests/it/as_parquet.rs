//! Into Parquet files, read again by DuckDB.

use crate::world::{ORIGIN, World};
use export::Format;
use std::path::Path;
use std::process::Command;

/// What DuckDB answers, a line each row.
fn ask(python: &Path, files: &Path, sql: &str) -> String {
    let program = "import duckdb, sys\n\
                   for row in duckdb.sql(sys.argv[2].replace('FILES', f\"read_parquet('{sys.argv[1]}/*.parquet')\")).fetchall():\n    \
                   print(*row, sep='|')\n";
    let output = Command::new(python)
        .args(["-c", program])
        .arg(files)
        .arg(sql)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn duckdb_reads_every_record_once_also_where_a_batch_came_twice() {
    let Some(python) = testkit::venv_python(&["duckdb"]) else {
        return testkit::skip("export.parquet", "there is no Python with duckdb");
    };
    let mut world = World::with(1_200);
    let files = world.beside("parquet");
    let to = format!("parquet:{}", files.display());
    let exported = world.export(&to, Format::CloudEvents).await.unwrap();
    assert_eq!((exported.records, exported.retries), (1_201, 0));
    let cursor = std::fs::read(world.beside("cursor")).unwrap();
    world.grow(100);
    world.export(&to, Format::CloudEvents).await.unwrap();
    // As after a kill between the file and the cursor, when more has come since.
    std::fs::write(world.beside("cursor"), cursor).unwrap();
    std::fs::write(files.join("example.org+pg-1.part"), "half").unwrap();
    world.grow(100);
    world.export(&to, Format::CloudEvents).await.unwrap();

    let answer = ask(
        &python,
        &files,
        "select count(*), count(distinct id), min(\"index\"), max(\"index\"), count(distinct origin), \
         bool_or(notable), min(epoch_ms(time)), count(*) filter (type = 'stop') from FILES",
    );
    let size = world.size();
    let last = size - 1;
    assert_eq!(size, 1_401);
    assert_eq!(
        answer,
        format!("{size}|{size}|0|{last}|1|False|1700000001000|{last}\n")
    );
    let answer = ask(
        &python,
        &files,
        "select id, json_extract_string(json, '$.data.body.reason') from FILES where \"index\" = 700",
    );
    assert_eq!(
        answer,
        format!("{ORIGIN}:700|number 699: \u{202e}\"\\ äöü\n")
    );
}
