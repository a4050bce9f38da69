//! `ar`, the outer format of a `.deb`: common format of 4.3BSD, short names only (deb(5)).

use facts::Finding;

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;
/// deb(5) names three members; more may follow.
const MOST_MEMBERS: usize = 16;

/// One member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

/// All members, in order.
///
/// # Errors
/// `REF-AR`.
pub fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>, Finding> {
    let refused = |what: &str| {
        Finding::new("REF-AR", "the package is not an ar archive")
            .expected("members as deb(5) describes them")
            .observed(what)
            .next("download the package again")
    };
    let mut rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| refused("other first bytes"))?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        if members.len() == MOST_MEMBERS {
            return Err(refused("too many members"));
        }
        let (member, after) = member(rest).ok_or_else(|| refused("a damaged member"))?;
        members.push(member);
        rest = after;
    }
    Ok(members)
}

fn member(bytes: &[u8]) -> Option<(Member<'_>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    if header.get(58..)? != b"`\n" {
        return None;
    }
    let name = str::from_utf8(header.get(..16)?).ok()?.trim_end();
    let name = name.strip_suffix('/').unwrap_or(name);
    let size = str::from_utf8(header.get(48..58)?).ok()?.trim_end();
    if name.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (content, rest) = rest.split_at_checked(size.parse().ok()?)?;
    // Members begin at even offsets; the last one may lack its padding.
    let rest = match (content.len() % 2, rest) {
        (0, rest) | (_, [b'\n', rest @ ..]) => rest,
        (_, []) => &[],
        _ => return None,
    };
    let member = Member {
        name,
        bytes: content,
    };
    Some((member, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, content) in parts {
            let header = format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                644,
                content.len()
            );
            bytes.extend(header.bytes());
            bytes.extend(*content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    #[test]
    fn members_stand_in_order() {
        let bytes = archive(&[("debian-binary", b"2.0\n"), ("odd/", b"abc"), ("x", b"")]);
        let found: Vec<_> = members(&bytes)
            .unwrap()
            .into_iter()
            .map(|member| (member.name, member.bytes))
            .collect();
        let expected: [(&str, &[u8]); 3] =
            [("debian-binary", b"2.0\n"), ("odd", b"abc"), ("x", b"")];
        assert_eq!(found, expected);
        assert!(members(&bytes[..bytes.len() - 1]).is_err());
        let many = archive(&[("x", &[] as &[u8]); 17]);
        assert_eq!(
            members(&many).unwrap_err().observed.unwrap(),
            "too many members"
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, at in 0_usize..200, byte: u8) {
            let _refused = members(&[MAGIC, &bytes].concat());
            let mut damaged = archive(&[("debian-binary", b"2.0\n"), ("data.tar", &bytes)]);
            if let Some(place) = damaged.get_mut(at) {
                *place = byte;
            }
            let _refused = members(&damaged);
        }
    }
}
