//! Certificates and the sections `[cluster]` and `[[member]]`, made by `holdfast cluster init`.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use super::error::Result;
use super::mesh::PORT;
use super::node::Common;
use crate::lab::process::run;

/// The sections of each member's configuration; a single node has none.
///
/// Certificates and keys go to `folder` below the bed's own, which must not have any yet.
pub fn sections(
    common: &Common,
    folder: &str,
    members: &BTreeMap<u8, Ipv4Addr>,
    witnesses: &[u8],
) -> Result<BTreeMap<u8, String>> {
    if members.len() < 2 {
        return Ok(BTreeMap::new());
    }
    let folder = common.folder.join(folder);
    let mut command = Command::new(&common.program);
    command.args(["cluster", "init"]).arg(&folder);
    command.arg("--install").arg(&folder);
    for (member, address) in members {
        command.arg("--member").arg(format!("{member}={address}:{PORT}"));
    }
    for witness in witnesses {
        command.arg("--witness").arg(witness.to_string());
    }
    run(&mut command)?;
    members
        .keys()
        .map(|member| {
            Ok((
                *member,
                fs::read_to_string(folder.join(format!("node-{member}.toml")))?,
            ))
        })
        .collect()
}

/// The same sections with these members alone; `join` for a node that the cluster does not know yet.
pub fn restricted(sections: &str, members: &[u8], join: bool) -> String {
    let mut parts = sections.split("\n[[member]]\n");
    let mut text = parts.next().unwrap_or_default().trim_end().to_owned();
    if join {
        text += "\njoin = true";
    }
    text.push('\n');
    let is_one = |part: &&str| {
        members
            .iter()
            .any(|member| part.starts_with(&format!("id = {member}\n")))
    };
    for part in parts.filter(is_one) {
        text += &format!("\n[[member]]\n{part}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_left_out_and_a_newcomer_joins() {
        let sections = "[cluster]\nid = \"x\"\n\n[[member]]\nid = 1\naddress = \"a\"\n\n[[member]]\nid = 2\naddress = \"b\"\n";
        assert_eq!(restricted(sections, &[1, 2], false), sections);
        assert_eq!(
            restricted(sections, &[2], true),
            "[cluster]\nid = \"x\"\njoin = true\n\n[[member]]\nid = 2\naddress = \"b\"\n"
        );
    }
}
