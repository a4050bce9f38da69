//! What command lines say, and what is refused of them.

use super::*;

fn read(words: &str) -> Result<Arguments, clap::Error> {
    Arguments::read(["trilith"].into_iter().chain(words.split(' ')))
}

fn refused(words: &str) -> String {
    read(words).unwrap_err().to_string()
}

#[test]
fn what_the_environment_says_is_not_in_usage_as_if_it_had_to_be_given() {
    let words = ["trilith", "verify"].map(std::ffi::OsString::from);
    let in_use = command().mut_arg("admin_socket", |argument| {
        // As of an environment that has it: the test has none of its own.
        argument.env("PATH")
    });
    let asked = in_use.clone().try_get_matches_from(words.clone());
    let told = asked.unwrap_err();
    assert!(told.to_string().contains("--admin-socket"), "{told}");
    let told = without_environment(told, &words);
    assert!(!told.to_string().contains("--admin-socket"), "{told}");
    let refused = refused("verify");
    assert!(!refused.contains("--admin-socket"), "{refused}");
}

/// It was taken and ignored, and the server listened elsewhere.
#[test]
fn a_role_is_not_told_of_an_admin_socket_by_a_flag() {
    for words in [
        "server --config s.toml --admin-socket /tmp/a.sock",
        "--admin-socket /tmp/a.sock server --config s.toml",
        "server rebuild-state --config s.toml --admin-socket /tmp/a.sock",
        "server snapshot --config s.toml --admin-socket /tmp/a.sock",
    ] {
        assert!(refused(words).contains("server.toml"), "{words}");
    }
    for (words, file) in [
        ("agent --config a.toml --admin-socket /tmp/a", "agent.toml"),
        (
            "gateway --config g.toml --admin-socket /tmp/a",
            "gateway.toml",
        ),
        (
            "--admin-socket /tmp/a gateway --config g.toml",
            "gateway.toml",
        ),
        ("pdp --config p.toml --admin-socket /tmp/a", "pdp.toml"),
        ("server --config s.toml --admin-server a:1", "server.toml"),
        (
            "status --admin-server a:1 --admin-socket /tmp/a",
            "give one",
        ),
    ] {
        assert!(refused(words).contains(file), "{words}");
    }
    for words in [
        "server --config s.toml",
        "agent --config a.toml",
        "agent list --admin-socket /tmp/a.sock",
        "status --admin-socket /tmp/a.sock",
        "--admin-socket /tmp/a.sock status",
    ] {
        read(words).expect(words);
    }
    let asked = read("status --admin-socket /tmp/a.sock");
    assert_eq!(
        asked.unwrap().global.admin_socket,
        PathBuf::from("/tmp/a.sock")
    );
}

/// The server's own default and that of whoever asks it never met.
#[test]
fn a_server_that_nobody_told_of_a_socket_is_found_where_it_puts_it() {
    let folder = tempfile::tempdir().unwrap();
    let (usual, own) = (
        folder.path().join("run.sock"),
        folder.path().join("own.sock"),
    );
    assert_eq!(
        elsewhere(&usual, &own),
        None,
        "neither is there: the usual one is named"
    );
    std::fs::write(&own, "").unwrap();
    assert_eq!(elsewhere(&usual, &own), Some(own.clone()));
    std::fs::write(&usual, "").unwrap();
    assert_eq!(elsewhere(&usual, &own), None, "the usual one comes first");
    // It is what the documented data_dir makes of the server's default.
    let example = include_str!("../../../../docs/operate/first-service.md");
    let data_dir = Path::new(SERVERS_OWN).parent().unwrap().display();
    assert!(example.contains(&format!("data_dir = \"{data_dir}\"")));
}

/// 0 was a token of an hour: to the server it means "as you like".
#[test]
fn a_token_of_no_time_is_none() {
    let create = "token create --node a --pool b --ttl";
    for ttl in ["0", "604801"] {
        assert!(
            refused(&format!("{create} {ttl}")).contains("--ttl"),
            "{ttl}"
        );
    }
    for ttl in ["1", "604800"] {
        read(&format!("{create} {ttl}")).expect(ttl);
    }
}

#[test]
fn a_verdict_is_named_as_records_are() {
    let verdict = |words: &str| {
        let arguments = read(words).unwrap();
        let Command::Attest(AttestCommand::Explain(arguments)) = arguments.command else {
            panic!("{words}");
        };
        arguments.verdict.unwrap()
    };
    for words in ["attest explain server:20", "attest explain 20"] {
        assert_eq!(verdict(words), Verdict::Record(20));
    }
    assert_eq!(
        verdict("attest explain db-1"),
        Verdict::Node("db-1".to_owned())
    );
    for record in ["pg-1:20", "server:"] {
        let told = refused(&format!("attest explain {record}"));
        assert!(told.contains("server:20"), "{told}");
    }
    read("attest explain --event-log a --ima b --pcrs c").unwrap();
    for words in ["attest explain", "attest explain 7 --event-log a"] {
        refused(words);
    }
}

/// It was cut, and nothing said so.
#[test]
fn a_reason_that_would_not_be_recorded_whole_is_refused() {
    let longest = "ö".repeat(server::LONGEST_REASON);
    for words in [
        "agent evict db-1 --reason",
        "agent readmit db-1 --reason",
        "revoke identity payments/api --reason",
        "restore payments/api --reason",
        "recover --reason",
        "ledger erase --record 41 --reason",
        "ledger prune --folder g --before 90d --reason",
        "ledger new-log --folder g --reason",
        "server prune --config s.toml --before 400d --reason",
        "server new-log --config s.toml --reason",
        "delegation revoke 42 --reason",
    ] {
        assert!(read(&format!("{words} {longest}")).is_ok(), "{words}");
        let refused = refused(&format!("{words} {longest}x"));
        assert!(refused.contains("REASON-LONG"), "{refused}");
        assert!(refused.contains("at most 512 characters"), "{refused}");
    }
}
