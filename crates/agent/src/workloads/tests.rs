//! The core, driven by hand: no process, no server, no clock.

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn subject(pid: i32, fingerprint: u8) -> Subject<()> {
    Subject {
        key: Key {
            pid,
            started: 7,
            program: None,
        },
        process: (),
        uid: 1000,
        facts: FactSet::new(),
        notes: Vec::new(),
        fingerprint: [fingerprint; 32],
    }
}

/// Name, states, and whether the entry is new.
fn attach(
    core: &mut Workloads<()>,
    subject: &Subject<()>,
    now: Timestamp,
) -> (String, watch::Receiver<State>, bool) {
    let attached = core.attested(subject, now).unwrap();
    (attached.name, attached.states, attached.watch.is_some())
}

fn core() -> Workloads<()> {
    let mut core = Workloads::new(1);
    core.trusted(
        Trust {
            trust_domain: "spiffe://example.org".to_owned(),
            ..Trust::default()
        },
        1,
    );
    core.connected();
    core
}

fn keys(count: usize) -> Vec<FreshKey> {
    (0..count)
        .map(|number| FreshKey {
            spki: vec![u8::try_from(number).unwrap()],
            spki_sha256: [u8::try_from(number).unwrap(); 32],
            pkcs8: Zeroizing::new(vec![9]),
        })
        .collect()
}

/// Lets every workload that wants to ask, ask; returns the requests.
fn ask_all(core: &mut Workloads<()>, now: Timestamp) -> Vec<v1::WorkloadRequest> {
    for (name, (), wanted) in core.take_asks(100) {
        let fingerprint = core.entries[&name].fingerprint[0];
        core.ask(&name, &subject(0, fingerprint), keys(wanted), now);
    }
    core.take_outbox()
        .into_iter()
        .filter_map(|message| match message.message {
            Some(v1::node_message::Message::Workload(request)) => Some(request),
            _ => None,
        })
        .collect()
}

fn issued(request: &v1::WorkloadRequest, ids: &[&str], begin: Timestamp) -> v1::Issued {
    v1::Issued {
        request: request.request,
        workload: request.workload.clone(),
        svids: ids
            .iter()
            .enumerate()
            .map(|(number, id)| v1::X509Svid {
                spiffe_id: (*id).to_owned(),
                public_key_sha256: vec![u8::try_from(number).unwrap(); 32],
                certificate_chain: vec![vec![1], vec![2]],
                hint: String::new(),
                not_before: begin.as_millis(),
                not_after: begin.as_millis() + HOUR_MS,
                serial: format!("{}{number}", request.request),
                index: 0,
            })
            .collect(),
        refused: Vec::new(),
        estate_index: 0,
    }
}

/// SPIFFE IDs shown, or the message of the refusal.
fn shown(states: &watch::Receiver<State>) -> Result<Vec<String>, String> {
    match &*states.borrow() {
        State::Pending => Ok(vec!["pending".to_owned()]),
        State::Current(view) => Ok(view
            .svids
            .iter()
            .map(|svid| svid.spiffe_id.clone())
            .collect()),
        State::Refused(refusal) => Err(refusal.to_string()),
    }
}

const A: &str = "spiffe://example.org/a";
const B: &str = "spiffe://example.org/b";

#[test]
fn streams_of_one_process_share_what_it_holds() {
    let mut core = core();
    let (name, states, new) = attach(&mut core, &subject(1, 1), now());
    assert!(new);
    assert_eq!(shown(&states), Ok(vec!["pending".to_owned()]));
    let requests = ask_all(&mut core, now());
    assert_eq!(requests.len(), 1);
    core.issued(issued(&requests[0], &[A], now()), now());
    assert_eq!(shown(&states), Ok(vec![A.to_owned()]));
    let (again, more, new) = attach(&mut core, &subject(1, 1), now());
    assert_eq!((again, new), (name, false));
    assert_eq!(shown(&more), Ok(vec![A.to_owned()]));
    assert!(ask_all(&mut core, now()).is_empty());
}

#[test]
fn when_keys_are_lacking_more_are_offered() {
    let mut core = core();
    let (_, states, _) = attach(&mut core, &subject(1, 1), now());
    let first = ask_all(&mut core, now());
    assert_eq!(first[0].public_keys.len(), 2);
    let mut answer = issued(&first[0], &[A, B], now());
    let lacking = vec![Finding::new(NO_KEY, "there is no key left")];
    answer.refused = vec![v1::RefusedIdentity {
        spiffe_id: "spiffe://example.org/c".to_owned(),
        findings: serde_json::to_vec(&lacking).unwrap(),
    }];
    core.issued(answer.clone(), now());
    let second = ask_all(&mut core, now());
    assert_eq!(second[0].public_keys.len(), 4);
    assert_eq!(second[0].held.len(), 2);
    assert_eq!(shown(&states).unwrap().len(), 2);
    answer.request = second[0].request;
    core.issued(answer, now());
    assert!(ask_all(&mut core, now()).is_empty(), "not for ever");
}

#[test]
fn a_process_that_executes_another_program_loses_what_it_held() {
    let mut core = core();
    let (_, states, _) = attach(&mut core, &subject(1, 1), now());
    let request = ask_all(&mut core, now()).remove(0);
    core.issued(issued(&request, &[A], now()), now());
    let (_, other, new) = attach(&mut core, &subject(1, 2), now());
    assert!(new);
    assert!(shown(&states).unwrap_err().contains("WORKLOAD-CHANGED"));
    assert_eq!(shown(&other), Ok(vec!["pending".to_owned()]));
    // Nor does an answer that was meant for the old program reach the new one.
    core.issued(issued(&request, &[A], now()), now());
    assert_eq!(shown(&other), Ok(vec!["pending".to_owned()]));
}

#[test]
fn a_program_changed_before_renewal_is_not_renewed() {
    let mut core = core();
    let (name, states, _) = attach(&mut core, &subject(1, 1), now());
    core.take_asks(1);
    core.ask(&name, &subject(1, 9), keys(2), now());
    assert!(shown(&states).unwrap_err().contains("WORKLOAD-CHANGED"));
    let sent = core.take_outbox();
    assert!(matches!(
        sent.as_slice(),
        [v1::NodeMessage {
            message: Some(v1::node_message::Message::Gone(_))
        }]
    ));
}

#[test]
fn a_withdrawn_identity_is_dropped_at_once_and_every_stream_sees_it() {
    let mut core = core();
    let (_, states, _) = attach(&mut core, &subject(1, 1), now());
    let request = ask_all(&mut core, now()).remove(0);
    core.issued(issued(&request, &[A], now()), now());
    core.withdrawn(&v1::Withdrawn {
        spiffe_id: A.to_owned(),
        serial: "another".to_owned(),
        reason: String::new(),
    });
    assert!(shown(&states).is_ok(), "another SVID of it");
    core.withdrawn(&v1::Withdrawn {
        spiffe_id: A.to_owned(),
        serial: String::new(),
        reason: "revoked".to_owned(),
    });
    assert!(shown(&states).unwrap_err().contains("AGENT-WITHDRAWN"));
    // A workload that calls again must not hide the withdrawal from the stream that has not read it yet.
    let later = now().plus_secs(2);
    let (_, again, _) = attach(&mut core, &subject(1, 1), later);
    assert_eq!(shown(&again), Ok(vec!["pending".to_owned()]));
    assert!(shown(&states).unwrap_err().contains("AGENT-WITHDRAWN"));
    assert_eq!(ask_all(&mut core, later).len(), 1);
}

#[test]
fn an_answer_decided_before_a_change_is_ignored() {
    let mut core = core();
    let (_, states, _) = attach(&mut core, &subject(1, 1), now());
    let stale = ask_all(&mut core, now()).remove(0);
    core.reconsider(Vec::new());
    core.issued(issued(&stale, &[A], now()), now());
    assert_eq!(shown(&states), Ok(vec!["pending".to_owned()]));
    let fresh = ask_all(&mut core, now()).remove(0);
    core.issued(issued(&fresh, &[], now()), now());
    assert_eq!(shown(&states), Err("no identity issued".to_owned()));
}

#[test]
fn what_is_held_is_served_while_the_server_is_away_until_it_expires() {
    let mut core = core();
    let (_, states, _) = attach(&mut core, &subject(1, 1), now());
    let (_, waiting, _) = attach(&mut core, &subject(2, 1), now());
    let requests = ask_all(&mut core, now());
    core.issued(issued(&requests[0], &[A], now()), now());
    core.disconnected();
    assert_eq!(shown(&states), Ok(vec![A.to_owned()]));
    assert!(shown(&waiting).unwrap_err().contains("AGENT-OFFLINE"));
    assert!(core.attested(&subject(3, 1), now()).is_err());
    // A server that has turned the machine away is not called unreachable, and no caller hears more of why.
    let found = Finding::new("IMA-FILE", "a file ran that is not listed").observed("/opt/secret");
    core.turned_away(found);
    let refused = core.attested(&subject(3, 1), now()).map(drop).unwrap_err();
    let refused = format!("{refused:?}");
    assert!(
        refused.contains("AGENT-OUT") && refused.contains("IMA-FILE"),
        "{refused}"
    );
    assert!(!refused.contains("secret"), "{refused}");

    let half = Timestamp::from_millis(now().as_millis() + HOUR_MS * 6 / 10);
    core.tick(half);
    assert_eq!(shown(&states), Ok(vec![A.to_owned()]));
    let end = Timestamp::from_millis(now().as_millis() + HOUR_MS);
    assert!(core.due().unwrap() <= end);
    core.tick(end);
    assert!(shown(&states).unwrap_err().contains("AGENT-EXPIRED"));

    core.connected();
    assert_eq!(ask_all(&mut core, end).len(), 2);
}

#[test]
fn renewal_comes_at_half_life_give_or_take_and_only_for_open_streams() {
    let mut core = core();
    let mut states = Vec::new();
    for pid in 0..50 {
        states.push(attach(&mut core, &subject(pid, 1), now()).1);
    }
    for request in ask_all(&mut core, now()) {
        core.issued(issued(&request, &[A], now()), now());
    }
    let unused = states.split_off(40);
    drop(unused);
    let after = |percent: u64| Timestamp::from_millis(now().as_millis() + HOUR_MS * percent / 100);
    assert!(core.due().unwrap() >= after(45));
    core.tick(after(44));
    assert!(!core.wants_to_send());
    core.tick(after(50));
    let first = ask_all(&mut core, after(50));
    let halfway = first.len();
    for request in first {
        core.issued(issued(&request, &[A], after(50)), after(50));
    }
    assert!((1..40).contains(&halfway), "spread, not at once: {halfway}");
    core.tick(after(55).plus_secs(1));
    assert_eq!(halfway + ask_all(&mut core, after(55)).len(), 40);
    assert_eq!(
        core.figures().workloads,
        40,
        "entries that nobody follows are dropped"
    );
}

#[test]
fn short_lives_do_not_renew_in_a_loop() {
    let mut core = core();
    let (_, _states, _) = attach(&mut core, &subject(1, 1), now());
    let request = ask_all(&mut core, now()).remove(0);
    let mut answer = issued(&request, &[A], now());
    answer.svids[0].not_after = now().plus_secs(6).as_millis();
    core.issued(answer, now());
    core.tick(now());
    core.tick(now().plus_secs(1));
    assert!(!core.wants_to_send());
    core.tick(now().plus_secs(4));
    assert!(core.wants_to_send());
}

#[test]
fn an_unanswered_request_is_made_again() {
    let mut core = core();
    let (_, _states, _) = attach(&mut core, &subject(1, 1), now());
    ask_all(&mut core, now());
    core.tick(now().plus_secs(PATIENCE_S - 1));
    assert!(!core.wants_to_send());
    core.tick(now().plus_secs(PATIENCE_S));
    assert!(core.wants_to_send());
}

#[test]
fn a_locked_node_issues_nothing_new() {
    let mut core = core();
    let (_, states, _) = attach(&mut core, &subject(1, 1), now());
    let (_, waiting, _) = attach(&mut core, &subject(2, 1), now());
    let requests = ask_all(&mut core, now());
    core.issued(issued(&requests[0], &[A], now()), now());
    core.lock(Finding::new("AGENT-LOCKED", "locked"));
    assert_eq!(shown(&states), Ok(vec![A.to_owned()]));
    assert!(shown(&waiting).unwrap_err().contains("AGENT-LOCKED"));
    core.issued(issued(&requests[1], &[B], now()), now());
    assert!(shown(&waiting).is_err());
    assert!(core.attested(&subject(3, 1), now()).is_err());
    core.reconsider(Vec::new());
    assert!(core.take_asks(9).is_empty());
}

#[test]
fn an_older_bundle_is_not_taken() {
    let mut core = core();
    let older = Trust {
        trust_domain: "older".to_owned(),
        ..Trust::default()
    };
    assert!(!core.trusted(older, 0));
    assert_eq!(
        core.trust.as_ref().unwrap().trust_domain,
        "spiffe://example.org"
    );
}

#[test]
fn tokens_are_cached_until_half_life_and_dropped_with_their_identity() {
    let mut core = core();
    let (name, _states, _) = attach(&mut core, &subject(1, 1), now());
    ask_all(&mut core, now());
    let query = JwtQuery {
        audience: vec!["db".to_owned()],
        spiffe_id: None,
    };
    let ask = |core: &mut Workloads<()>, now| match core.jwt(&name, &query, false, now).unwrap() {
        JwtAnswer::Now(svids) => Some(svids.len()),
        JwtAnswer::Later(_) => None,
    };
    let JwtAnswer::Later(mut reply) = core.jwt(&name, &query, false, now()).unwrap() else {
        panic!("nothing was cached");
    };
    let sent = core.take_outbox();
    let Some(v1::node_message::Message::Jwt(request)) = sent[0].message.clone() else {
        panic!("{sent:?}");
    };
    core.jwt_issued(
        v1::JwtIssued {
            request: request.request,
            svids: vec![v1::JwtSvid {
                spiffe_id: A.to_owned(),
                token: "t".to_owned(),
                hint: String::new(),
                not_after: now().plus_secs(300).as_millis(),
            }],
            refused: Vec::new(),
        },
        now(),
    );
    assert_eq!(reply.try_recv().unwrap().unwrap().len(), 1);
    assert_eq!(ask(&mut core, now().plus_secs(149)), Some(1));
    assert_eq!(ask(&mut core, now().plus_secs(151)), None);
    core.withdrawn(&v1::Withdrawn {
        spiffe_id: A.to_owned(),
        serial: String::new(),
        reason: String::new(),
    });
    assert_eq!(
        ask(&mut core, now()),
        None,
        "a withdrawn identity's token is gone"
    );
}
