//! A topic of Apache Kafka: each batch is one produce request with `acks=all` to the leader of one partition, taken
//! when every in-sync replica has it. Records of a ledger all go to the same partition, so they stay in order; their
//! key is the event's id, by which whoever gets one twice knows it.
//!
//! Two requests of the protocol, in the last versions without tagged fields: Metadata 4 and Produce 7 (Kafka 1.0 to
//! 4.x). Topics are not made. There is no SASL: the broker knows this client by its network, or not at all.

mod batch;
mod wire;

use super::Refusal;
use super::address::Address;
use crate::Event;
use batch::{batch, crc32c};
use facts::Finding;
use listen::Stream;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::{Answer, Layout, Partition};

/// From the first packet to the last byte.
const DEADLINE: Duration = Duration::from_secs(30);
/// What the broker waits for its replicas.
const REPLICAS_MS: i32 = 20_000;
/// Bytes of an answer: those of Metadata grow with the cluster.
const LONGEST_ANSWER: usize = 4 << 20;

pub(super) struct KafkaSink {
    first: Address,
    topic: String,
    layout: Option<Layout>,
    connections: BTreeMap<(String, u16), Box<dyn Stream>>,
    asked: i32,
}

impl KafkaSink {
    /// `HOST:PORT/TOPIC`. `None`: it is none.
    pub(super) fn topic(rest: &str) -> Option<(&str, &str)> {
        let (host, topic) = rest.strip_prefix("//")?.split_once('/')?;
        // Kafka's own rule for names of topics.
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let named = (1..=249).contains(&topic.len()) && topic.bytes().all(legal);
        (named && topic != "." && topic != "..").then_some((host, topic))
    }

    pub(super) fn new(first: Address, topic: &str) -> Self {
        Self {
            first,
            topic: topic.to_owned(),
            layout: None,
            connections: BTreeMap::new(),
            asked: 0,
        }
    }

    pub(super) async fn take(&mut self, events: &[Event]) -> Result<(), Refusal> {
        let taken = tokio::time::timeout(DEADLINE, self.produce(events)).await;
        let taken = taken.unwrap_or_else(|_| {
            let seconds = DEADLINE.as_secs();
            Err(Refusal::again(format!("no answer within {seconds} s")))
        });
        if taken.is_err() {
            // What was asked may still be answered, and a leader may have moved.
            self.connections.clear();
            self.layout = None;
        }
        taken
    }

    async fn produce(&mut self, events: &[Event]) -> Result<(), Refusal> {
        let Some(origin) = events.first().map(|event| event.origin.clone()) else {
            return Ok(());
        };
        let partition = self.partition(&origin).await?;
        let records = batch(events).ok_or_else(|| self.too_large("more than 2 GiB"))?;
        let request = wire::produce(&self.topic, partition.index, REPLICAS_MS, &records);
        let request = request.ok_or_else(|| self.too_large("more than 2 GiB"))?;
        let leader = (partition.host, partition.port);
        let answer = self.ask(&leader, wire::PRODUCE, &request).await?;
        let produced = wire::produced(&answer, &self.topic, partition.index);
        let code = produced.ok_or_else(|| Refusal::again(unreadable("Produce")))?;
        self.judge(code)
    }

    /// The partition of a ledger, by its origin.
    async fn partition(&mut self, origin: &str) -> Result<Partition, Refusal> {
        if self.layout.is_none() {
            let request = wire::metadata(&self.topic);
            let first = self.first.place();
            let answer = self.ask(&first, wire::METADATA, &request).await?;
            let layout = wire::layout(&answer, &self.topic);
            let layout = layout.ok_or_else(|| Refusal::again(unreadable("Metadata")))?;
            self.judge(layout.error)?;
            self.layout = Some(layout);
        }
        let partitions = self.layout.as_ref().map(|layout| &layout.partitions);
        let partitions = partitions.map_or(&[][..], Vec::as_slice);
        let of = usize::try_from(crc32c(origin.as_bytes())).unwrap_or_default();
        let at = of.checked_rem(partitions.len()).unwrap_or_default();
        let partition = partitions
            .get(at)
            .ok_or_else(|| Refusal::again(format!("topic {} has no partition", self.topic)))?;
        if partition.error != 0 {
            self.judge(partition.error)?;
        }
        Ok(partition.clone())
    }

    /// One request and its answer, by a connection that is kept.
    async fn ask(
        &mut self,
        place: &(String, u16),
        request: (i16, i16),
        body: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        self.asked = self.asked.wrapping_add(1);
        let framed = wire::framed(request, self.asked, body);
        let framed = framed.ok_or_else(|| self.too_large("more than 2 GiB"))?;
        let stream = match self.connections.entry(place.clone()) {
            std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let (host, port) = place;
                let address = self.first.beside(host, *port).ok_or_else(|| {
                    Refusal::Never(Box::new(
                        Finding::new(
                            "EXPORT-SINK-REFUSED",
                            "the broker names a leader that is not reached by TLS and is not this machine",
                        )
                        .expected("advertised listeners with TLS, or on 127.0.0.1")
                        .observed(format!("{host}:{port}"))
                        .next("use kafka+tls:, or mend the broker's advertised.listeners"),
                    ))
                })?;
                free.insert(address.connect().await.map_err(Refusal::again)?)
            }
        };
        let failed =
            |error: std::io::Error| Refusal::again(format!("the broker went away: {error}"));
        stream.write_all(&framed).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        let length = usize::try_from(stream.read_u32().await.map_err(failed)?);
        let length = length.unwrap_or(usize::MAX);
        if !(4..=LONGEST_ANSWER).contains(&length) {
            return Err(Refusal::again(format!("an answer of {length} bytes")));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.map_err(failed)?;
        let answered = Answer::new(&answer).i32();
        if answered != Some(self.asked) {
            return Err(Refusal::again("an answer to another request"));
        }
        answer.drain(..4);
        Ok(answer)
    }

    fn judge(&self, code: i16) -> Result<(), Refusal> {
        let (name, retriable) = wire::error(code);
        match (code, retriable) {
            (0, _) => Ok(()),
            (wire::MESSAGE_TOO_LARGE | wire::RECORD_LIST_TOO_LARGE, _) => Err(self.too_large(name)),
            (_, true) => Err(Refusal::again(format!(
                "topic {}: {name} ({code})",
                self.topic
            ))),
            _ => Err(Refusal::Never(self.refused(&format!("{name} ({code})")))),
        }
    }

    fn too_large(&self, observed: &str) -> Refusal {
        Refusal::TooLarge(self.refused(observed))
    }

    fn refused(&self, observed: &str) -> Box<Finding> {
        Box::new(
            Finding::new("EXPORT-SINK-REFUSED", "Kafka does not take the events")
                .expected("a topic that exists and that this client may write to")
                .observed(format!("topic {}: {observed}", self.topic))
                .next("look at the topic, its rights and its max.message.bytes; then run the same command again"),
        )
    }
}

fn unreadable(request: &str) -> String {
    format!("an answer to {request} that cannot be read")
}
