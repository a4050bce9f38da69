//! What a pack shows as one page for people: no script, nothing that is loaded, everything that others wrote
//! escaped. Made from a verified report, or from the failure, and from nothing else of the pack: a page is as good
//! as whoever made it, so that none is ever part of a pack (decision 0013).

mod grounds;
mod markup;
mod story;

use crate::commands::pack::{again, answers, asked, time, up_to};
use crate::commands::proof;
use crypto::hex;
use ledger::pack::{Failure, Report, Trust};
use markup::{Markup, Place};
use recheck::Rechecked;

const STYLE: &str = include_str!("page/page.css");
/// Records that are shown as they stand.
const MOST: usize = 500;

/// The pack that a page is about: which bytes they were.
pub(crate) struct Subject {
    bytes: usize,
    sha256: String,
}

impl Subject {
    pub(crate) fn of(pack: &[u8]) -> Self {
        Self {
            bytes: pack.len(),
            sha256: hex::encode(&crypto::sha256(pack)),
        }
    }
}

/// The page of a pack that was verified under `trust`.
pub(crate) fn verified(
    report: &Report,
    rechecked: &Rechecked,
    subject: &Subject,
    trust: &Trust,
) -> String {
    let mut page = begin(&asked(&report.question));
    match report.doubts.split_first() {
        None => {
            page.tags("<div class=\"banner good\" role=\"status\"><p><strong>");
            page.text("Verified, and complete")
                .text(up_to(report))
                .tags("</strong></p>");
        }
        Some((first, more)) => {
            page.tags("<div class=\"banner doubt\" role=\"status\"><p><strong>");
            page.text("Verified; NOT shown to be complete")
                .tags("</strong></p><p>");
            page.name(first).tags("</p>");
            if !more.is_empty() {
                let more = more.len();
                page.tags("<p>")
                    .text(format_args!("and {more} more reasons, below"))
                    .tags("</p>");
            }
        }
    }
    page.tags("<p>").text(format_args!(
        "{} records answer; with what they rest on it is {} records under {} checkpoints, and {} blobs.",
        answers(report),
        report.records.len(),
        report.checkpoints.len(),
        report.blobs.len()
    ));
    page.tags("</p>");
    for one in &report.erased {
        page.tags("<p>")
            .name(crate::commands::pack::erased(one, rechecked))
            .tags("</p>");
    }
    page.tags("</div>");
    question(&mut page, report);
    checks(&mut page, report, rechecked);
    ledgers(&mut page, report);
    let estates = grounds::Estates::read(report);
    story::tell(&mut page, report, &estates);
    grounds::identities(&mut page, report, &estates);
    grounds::machines(&mut page, report);
    estates.tell(&mut page, report);
    records(&mut page, report);
    end(page, subject, trust)
}

/// The page of a pack that does not verify: the first thing that does not hold, and nothing that the pack says.
pub(crate) fn refused(failure: &Failure, subject: &Subject, trust: &Trust) -> String {
    let mut page = begin("a pack that does not verify");
    page.tags("<div class=\"banner bad\" role=\"alert\"><p><strong>");
    page.text("This pack does NOT verify. Do not rely on it.")
        .tags("</strong></p><p>");
    page.text("The first thing that does not hold: ")
        .code(failure.code)
        .tags("</p><dl><dt>");
    page.text("In")
        .tags("</dt><dd>")
        .code(&failure.section)
        .tags("</dd>");
    if let Some(record) = failure.record {
        page.tags("<dt>")
            .text("Record")
            .tags("</dt><dd>")
            .text(record)
            .tags("</dd>");
    }
    page.tags("<dt>")
        .text("Why")
        .tags("</dt><dd>")
        .name(&failure.message)
        .tags("</dd></dl></div><p>");
    page.text(
        "Nothing that the pack says is shown here, because nobody vouches for it. Ask for it again, and keep this \
         one as evidence.",
    );
    page.tags("</p>");
    end(page, subject, trust)
}

fn begin(title: &str) -> Markup {
    let mut page = Markup::default();
    page.tags("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\" />");
    page.tags("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />");
    page.tags("<meta name=\"referrer\" content=\"no-referrer\" />");
    page.tags(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\" />",
    );
    page.tags("<title>")
        .text("Trilith pack: ")
        .text(title)
        .tags("</title>\n<style>\n");
    // It has no character that HTML or XML would read as markup; a test of this file holds it to that.
    page.tags(STYLE).tags("</style></head>\n<body>\n<h1>");
    page.text("Pack: ").name(title).tags("</h1>\n");
    page
}

fn end(mut page: Markup, subject: &Subject, trust: &Trust) -> String {
    page.tags("\n<h2>")
        .text("About this page")
        .tags("</h2><dl><dt>");
    page.text("Pack")
        .tags("</dt><dd>")
        .text(format_args!("{} bytes, SHA-256 ", subject.bytes));
    page.code(&subject.sha256)
        .tags("</dd><dt>")
        .text("Trusted")
        .tags("</dt><dd>");
    page.text("trust domain ")
        .code(&trust.trust_domain)
        .text(", ledger key ");
    page.code(&trust.ledger_key)
        .tags("</dd><dt>")
        .text("Made by")
        .tags("</dt><dd>");
    page.text(concat!("trilith ", env!("CARGO_PKG_VERSION")))
        .tags("</dd></dl><p class=\"note\">");
    page.text(
        "A page is as good as whoever made it. It is no part of the pack; with the pack and a trust file of your own \
         you make the same page again: ",
    );
    page.tags("<code>")
        .text("trilith verify PACK --trust FILE --html PAGE")
        .tags("</code></p>\n</body></html>\n");
    page.into_string()
}

fn question(page: &mut Markup, report: &Report) {
    page.tags("\n<h2>")
        .text("The question")
        .tags("</h2><p>")
        .name(asked(&report.question))
        .tags("</p><p class=\"note\">");
    page.text(
        "As whoever asked put it; nothing vouches for the question, and the answers fit it: ",
    );
    page.code(report.question.to_json()).tags("</p>");
}

/// What was checked, and what was not.
fn checks(page: &mut Markup, report: &Report, rechecked: &Rechecked) {
    page.tags("\n<h2>")
        .text("What was checked")
        .tags("</h2><ul>");
    for (at, head) in report.checkpoints.iter().enumerate() {
        page.tags("<li>")
            .text("The checkpoint of ")
            .code(&head.origin);
        page.text(match at {
            0 => " is signed by the key of the trust file.",
            _ => " is signed by its gateway, and anchored in the server's ledger.",
        });
        page.tags("</li>");
    }
    page.tags("<li>").text(format_args!(
        "Each of the {} records stands at its place in its ledger, by a proof that leads to the checkpoint.",
        report.records.len()
    ));
    page.tags("</li>");
    for (head, extent) in report.checkpoints.iter().zip(&report.extents) {
        if extent.entries {
            page.tags("<li>")
                .text(format_args!("All {} entries of ", head.size))
                .code(&head.origin);
            page.text(" were looked at: no record that answers is left out.")
                .tags("</li>");
        }
    }
    page.tags("<li>").text(format_args!(
        "Each of the {} blobs has the digest by which a record names it.",
        report.blobs.len()
    ));
    page.tags("</li>");
    if !report.certificates.is_empty() {
        page.tags("<li>").text(format_args!(
            "Each of the {} certificates of SVIDs is that of its issuance, and led to a root of the trust file when it was used.",
            report.certificates.len()
        ));
        page.tags("</li>");
    }
    let Rechecked(all) = rechecked;
    if !all.is_empty() {
        page.tags("<li>").text(format_args!(
            "{} of {} decisions, issuances and verdicts were made again from what they name, with the same result.",
            rechecked.recomputed(),
            all.len()
        ));
        page.tags("</li>");
    }
    let witnessed = report.quorum.as_ref().filter(|quorum| quorum.reached);
    if let Some(quorum) = witnessed {
        page.tags("<li>")
            .text("The server's checkpoint is ")
            .name(proof::quorum_text(quorum))
            .tags("</li>");
    }
    page.tags("</ul>\n<h2>")
        .text("What was NOT checked")
        .tags("</h2><ul>");
    for doubt in report.doubts.iter().take(MOST) {
        page.tags("<li class=\"doubt\">").name(doubt).tags("</li>");
    }
    if let Some(left @ 1..) = report.doubts.len().checked_sub(MOST) {
        page.tags("<li class=\"doubt\">")
            .text(format_args!("and {left} more of the kind"))
            .tags("</li>");
    }
    match &report.quorum {
        None => {
            page.tags("<li>")
                .text("That others are shown the same ledger: the trust file names no witnesses.");
            page.tags("</li>");
        }
        Some(quorum) if !quorum.reached => {
            page.tags("<li class=\"doubt\">")
                .name(proof::quorum_text(quorum))
                .tags("</li>");
        }
        Some(_) => {}
    }
    for what in [
        "That there is nothing newer than these checkpoints: their sizes and times are below.",
        "What happened past the gateways.",
    ] {
        page.tags("<li>").text(what).tags("</li>");
    }
    // What was not made again is shown as it was recorded.
    let reasons = again::reasons(rechecked);
    for reason in reasons.iter().take(MOST) {
        page.tags("<li class=\"doubt\">").text("Not made again: ");
        page.name(reason).tags("</li>");
    }
    if let Some(left @ 1..) = reasons.len().checked_sub(MOST) {
        page.tags("<li class=\"doubt\">")
            .text(format_args!("and {left} more reasons of the kind"))
            .tags("</li>");
    }
    page.tags("</ul>");
}

fn ledgers(page: &mut Markup, report: &Report) {
    page.tags("\n<h2>")
        .text("Ledgers")
        .tags("</h2><table><thead><tr>");
    for head in [
        "Ledger",
        "Records",
        "As of",
        "Answers",
        "Shown to be complete",
        "Root",
    ] {
        page.tags("<th scope=\"col\">").text(head).tags("</th>");
    }
    page.tags("</tr></thead><tbody>");
    for (head, extent) in report.checkpoints.iter().zip(&report.extents) {
        page.tags("<tr><td class=\"who\">")
            .code(&head.origin)
            .tags("</td><td>")
            .text(head.size);
        page.tags("</td><td class=\"when\">");
        page.text(extent.until.map_or_else(|| "not stated".to_owned(), time))
            .tags("</td><td>");
        page.text(extent.answers);
        if let Some(matching) = extent
            .matching
            .filter(|matching| *matching > extent.answers)
        {
            page.text(format_args!(" ({matching} in the ledger)"));
        }
        page.tags("</td>");
        match extent.complete {
            true => page.tags("<td class=\"good\">").text("yes"),
            false => page.tags("<td class=\"doubt\">").text("NO"),
        };
        page.tags("</td><td>")
            .code(hex::encode(&head.root))
            .tags("</td></tr>");
    }
    page.tags("</tbody></table>");
}

/// Every record as it stands.
fn records(page: &mut Markup, report: &Report) {
    page.tags("\n<h2>")
        .text("The records as they stand")
        .tags("</h2>");
    for item in report.records.iter().take(MOST) {
        page.target("h3", Place::Record(item.checkpoint, item.index));
        page.name(story::place(item))
            .text(" ")
            .code(item.record.kind().as_str());
        page.text(", ").text(time(item.record.stamp().wall));
        if !item.answers {
            page.text(" (rested on)");
        }
        page.tags("</h3><pre>")
            .name(item.record.body())
            .tags("</pre>");
    }
    if let Some(left @ 1..) = report.records.len().checked_sub(MOST) {
        page.tags("<p>").text(format_args!(
            "And {left} more, which `trilith verify` has with `--raw` or `--json`."
        ));
        page.tags("</p>");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_style_is_no_markup_and_loads_nothing() {
        for what in ["<", "&", "]]>", "url(", "@import", "\\"] {
            assert!(!super::STYLE.contains(what), "{what}");
        }
    }
}
