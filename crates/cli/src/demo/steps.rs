//! The ten steps, in order. Each compares what it observed with what should be, and prints both outcomes alike.

mod access;
mod change;
mod evidence;
mod machine;
mod theft;

use super::site::Site;
use super::story::Story;

pub(crate) async fn all(story: &mut Story, site: &mut Site) -> anyhow::Result<()> {
    story.chapter("1  A server, its ledger, and an estate that is proved before it is current (access control)");
    let estate = machine::server_and_estate(story, site).await?;
    story.chapter("2  A machine proves itself (trusted execution)");
    let pin = machine::join(story, site).await?;
    story.chapter(
        "3  Programs get identities; one that is not what was declared does not (identity)",
    );
    machine::programs(story, site).await?;
    story.chapter("4  They reach a real database through the gateway (access control)");
    machine::gateway(story, site, &pin).await?;
    access::allowed(story, site).await?;
    access::denied(story, site).await?;
    access::prepared(story, site, &estate).await?;
    story.chapter("5  Why, who, what (visibility)");
    access::questions(story, site).await?;
    story.chapter("6  A change that would break an invariant (access control)");
    change::refused(story, site, &estate).await?;
    change::another_way_in(story, site, &estate).await?;
    story.chapter("7  The server dies under load");
    change::server_killed(story, site).await?;
    story.chapter("8  The payments identity is revoked (identity)");
    change::revoked(story, site).await?;
    story.chapter("9  Evidence that anyone can check (visibility)");
    evidence::pack(story, site).await?;
    story.chapter("10 The authority's key is stolen (identity)");
    theft::refused(story, site).await
}
