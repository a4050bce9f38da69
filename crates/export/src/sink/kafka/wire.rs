//! Requests and answers, as the protocol guide of Apache Kafka has them. Nothing here trusts a length.

/// Key and version of a request.
pub(super) const METADATA: (i16, i16) = (3, 4);
pub(super) const PRODUCE: (i16, i16) = (0, 7);

pub(super) const MESSAGE_TOO_LARGE: i16 = 10;
pub(super) const RECORD_LIST_TOO_LARGE: i16 = 18;
/// Wait for every replica that is in sync.
const ACKS_ALL: i16 = -1;
const CLIENT: &str = "trilith";
/// Brokers, topics or partitions that an answer may name.
const MOST: i32 = 100_000;

/// Where the partitions of a topic are led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) error: i16,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) error: i16,
    pub(super) index: i32,
    pub(super) host: String,
    pub(super) port: u16,
}

/// What a code means, and whether it may be another one later.
pub(super) const fn error(code: i16) -> (&'static str, bool) {
    match code {
        0 => ("no error", false),
        2 => ("CORRUPT_MESSAGE", true),
        3 => ("UNKNOWN_TOPIC_OR_PARTITION: there is no such topic", false),
        5 => ("LEADER_NOT_AVAILABLE", true),
        6 => ("NOT_LEADER_OR_FOLLOWER", true),
        7 => ("REQUEST_TIMED_OUT", true),
        8 => ("BROKER_NOT_AVAILABLE", true),
        9 => ("REPLICA_NOT_AVAILABLE", true),
        MESSAGE_TOO_LARGE => ("MESSAGE_TOO_LARGE", false),
        13 => ("NETWORK_EXCEPTION", true),
        RECORD_LIST_TOO_LARGE => ("RECORD_LIST_TOO_LARGE", false),
        19 => ("NOT_ENOUGH_REPLICAS", true),
        20 => ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", true),
        29 => ("TOPIC_AUTHORIZATION_FAILED", false),
        35 => ("UNSUPPORTED_VERSION", false),
        56 => ("KAFKA_STORAGE_ERROR", true),
        87 => ("INVALID_RECORD", false),
        89 => ("THROTTLING_QUOTA_EXCEEDED", true),
        _ => ("an error that this client does not know", false),
    }
}

/// A request with its length and header. `None`: too long for the protocol.
pub(super) fn framed((key, version): (i16, i16), number: i32, body: &[u8]) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    request.extend_from_slice(&key.to_be_bytes());
    request.extend_from_slice(&version.to_be_bytes());
    request.extend_from_slice(&number.to_be_bytes());
    string(&mut request, CLIENT);
    request.extend_from_slice(body);
    let mut framed = i32::try_from(request.len()).ok()?.to_be_bytes().to_vec();
    framed.append(&mut request);
    Some(framed)
}

/// Names of topics and of this client, which are short.
fn string(bytes: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend(text.bytes().take(usize::from(length.unsigned_abs())));
}

/// Where is this topic? It is not made if there is none.
pub(super) fn metadata(topic: &str) -> Vec<u8> {
    let mut body = 1_i32.to_be_bytes().to_vec();
    string(&mut body, topic);
    body.push(0);
    body
}

/// One batch for one partition.
pub(super) fn produce(topic: &str, partition: i32, wait_ms: i32, batch: &[u8]) -> Option<Vec<u8>> {
    let mut body = (-1_i16).to_be_bytes().to_vec();
    body.extend_from_slice(&ACKS_ALL.to_be_bytes());
    body.extend_from_slice(&wait_ms.to_be_bytes());
    body.extend_from_slice(&1_i32.to_be_bytes());
    string(&mut body, topic);
    body.extend_from_slice(&1_i32.to_be_bytes());
    body.extend_from_slice(&partition.to_be_bytes());
    body.extend_from_slice(&i32::try_from(batch.len()).ok()?.to_be_bytes());
    body.extend_from_slice(batch);
    Some(body)
}

/// Reads an answer from its first byte on; everything is `None` behind its end.
pub(super) struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Empty, if it is null.
    fn string(&mut self) -> Option<&'a str> {
        let length = self.i16()?;
        let bytes = self.take(usize::try_from(length).unwrap_or_default())?;
        std::str::from_utf8(bytes).ok()
    }

    fn count(&mut self) -> Option<i32> {
        self.i32().filter(|count| (0..=MOST).contains(count))
    }

    fn skip_numbers(&mut self) -> Option<()> {
        let count = usize::try_from(self.count()?).ok()?;
        self.take(count.checked_mul(4)?).map(drop)
    }
}

/// An answer to Metadata: the topic and who leads its partitions, in the order of their numbers.
pub(super) fn layout(answer: &[u8], topic: &str) -> Option<Layout> {
    let mut answer = Answer::new(answer);
    let _throttled = answer.i32()?;
    let mut brokers = Vec::new();
    for _ in 0..answer.count()? {
        let (node, host, port) = (answer.i32()?, answer.string()?, answer.i32()?);
        let _rack = answer.string()?;
        brokers.push((node, host, u16::try_from(port).ok()?));
    }
    let _cluster = answer.string()?;
    let _controller = answer.i32()?;
    if answer.count()? != 1 {
        return None;
    }
    let error = answer.i16()?;
    if answer.string()? != topic {
        return None;
    }
    let _internal = answer.take(1)?;
    let mut partitions = Vec::new();
    for _ in 0..answer.count()? {
        let (error, index, leader) = (answer.i16()?, answer.i32()?, answer.i32()?);
        answer.skip_numbers()?;
        answer.skip_numbers()?;
        let led = brokers.iter().find(|(node, ..)| *node == leader);
        // A partition without a leader has an error of its own.
        let (host, port) = led.map_or(("", 0), |(_, host, port)| (*host, *port));
        let error = if error == 0 && host.is_empty() {
            5
        } else {
            error
        };
        partitions.push(Partition {
            error,
            index,
            host: host.to_owned(),
            port,
        });
    }
    partitions.sort_by_key(|partition| partition.index);
    Some(Layout { error, partitions })
}

/// The error of the one partition in an answer to Produce.
pub(super) fn produced(answer: &[u8], topic: &str, partition: i32) -> Option<i16> {
    let mut answer = Answer::new(answer);
    let one = answer.count()? == 1 && answer.string()? == topic && answer.count()? == 1;
    (one && answer.i32()? == partition)
        .then(|| answer.i16())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7];
        string(&mut bytes, "db1");
        bytes.extend_from_slice(&9_092_i32.to_be_bytes());
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        bytes.extend_from_slice(&7_i32.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0]);
        string(&mut bytes, "records");
        bytes.push(0);
        bytes.extend_from_slice(&2_i32.to_be_bytes());
        for (index, leader) in [(1_i32, 7_i32), (0, 8)] {
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&index.to_be_bytes());
            bytes.extend_from_slice(&leader.to_be_bytes());
            for _ in 0..2 {
                bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 7]);
            }
        }
        bytes
    }

    #[test]
    fn a_topic_has_its_partitions_in_order_and_those_without_a_leader_wait() {
        let layout = layout(&answer(), "records").unwrap();
        assert_eq!(layout.error, 0);
        let found: Vec<_> = layout
            .partitions
            .iter()
            .map(|one| (one.index, one.error, one.host.as_str(), one.port))
            .collect();
        assert_eq!(found, [(0, 5, "", 0), (1, 0, "db1", 9_092)]);
        assert!(super::layout(&answer(), "others").is_none());
    }

    #[test]
    fn no_answer_that_is_cut_or_changed_makes_it_panic_or_grow() {
        let whole = answer();
        for end in 0..whole.len() {
            assert!(layout(&whole[..end], "records").is_none(), "{end}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _read = layout(&changed, "records");
                let _read = produced(&changed, "records", 0);
            }
        }
    }
}
