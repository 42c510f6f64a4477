//! Users and groups by name, and which user a peer may act for.
//!
//! Must not know: where the tables come from.

use crate::fs::{Error, Result, User};
use std::collections::{BTreeMap, BTreeSet};

/// Everyone who is nobody in particular (Linux: overflowuid).
pub const NOBODY: u32 = 65534;

/// The static table of names. Looked into, never asked from outside.
#[derive(Clone, Debug)]
pub struct Users {
    uids: BTreeMap<Box<[u8]>, u32>,
    names: BTreeMap<u32, Box<[u8]>>,
    /// Primary groups by uid.
    primary: BTreeMap<u32, u32>,
    gids: BTreeMap<Box<[u8]>, u32>,
    group_names: BTreeMap<u32, Box<[u8]>>,
    /// Pairs of uid and gid, from the lists of members.
    members: BTreeSet<(u32, u32)>,
}

impl Default for Users {
    fn default() -> Users {
        Users::parse("root:x:0:0\nnobody:x:65534:65534\n", "root:x:0\nnogroup:x:65534\n")
    }
}

impl Users {
    /// From the texts of passwd(5) and group(5). Lines that are none are passed over.
    pub fn parse(passwd: &str, group: &str) -> Users {
        let mut users = Users {
            uids: BTreeMap::new(),
            names: BTreeMap::new(),
            primary: BTreeMap::new(),
            gids: BTreeMap::new(),
            group_names: BTreeMap::new(),
            members: BTreeSet::new(),
        };
        let number = |field: Option<&str>| field.and_then(|text| text.parse::<u32>().ok());
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(uid)) = (fields.next(), number(fields.nth(1))) else { continue };
            let name: Box<[u8]> = name.as_bytes().into();
            users.uids.entry(name.clone()).or_insert(uid);
            users.names.entry(uid).or_insert(name);
            if let Some(gid) = number(fields.next()) {
                users.primary.entry(uid).or_insert(gid);
            }
        }
        for line in group.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(gid)) = (fields.next(), number(fields.nth(1))) else { continue };
            let name: Box<[u8]> = name.as_bytes().into();
            users.gids.entry(name.clone()).or_insert(gid);
            users.group_names.entry(gid).or_insert(name);
            let members =
                fields.next().unwrap_or_default().split(',').filter_map(|member| users.uid(member.trim().as_bytes()));
            users.members.extend(members.map(|uid| (uid, gid)).collect::<Vec<_>>());
        }
        users
    }

    /// A uid by name or decimal number.
    pub fn uid(&self, name: &[u8]) -> Option<u32> {
        self.uids.get(name).copied().or_else(|| decimal(name))
    }

    /// A gid by name or decimal number.
    pub fn gid(&self, name: &[u8]) -> Option<u32> {
        self.gids.get(name).copied().or_else(|| decimal(name))
    }

    /// Who is in which group, as pairs of uid and gid: the primary groups of all users that have a name, and the members that groups list.
    pub fn memberships(&self) -> impl Iterator<Item = (u32, u32)> {
        let primary = self.primary.iter().map(|(uid, gid)| (*uid, *gid));
        primary.chain(self.members.iter().copied())
    }

    /// The name of a user, or the number in decimal.
    pub fn name_of_user(&self, uid: u32) -> Vec<u8> {
        self.user_name(uid).as_bytes().to_vec()
    }

    /// The name of a group, or the number in decimal.
    pub fn name_of_group(&self, gid: u32) -> Vec<u8> {
        self.group_name(gid).as_bytes().to_vec()
    }

    pub(super) fn user_name(&self, uid: u32) -> Name<'_> {
        Name::of(self.names.get(&uid).map(|name| &**name), uid)
    }

    pub(super) fn group_name(&self, gid: u32) -> Name<'_> {
        Name::of(self.group_names.get(&gid).map(|name| &**name), gid)
    }

    /// Who attaches: n_uname wins; else uname as a number or from the table; else nobody. Then the trust of the connection decides.
    /// It also decides what is known of the user's groups.
    pub(super) fn resolve(&self, trust: Trust, peer: u32, uname: &[u8], n_uname: u32) -> Result<User> {
        let asked = if n_uname != !0 { Some(n_uname) } else { self.uid(uname) };
        let uid = match (trust, asked) {
            (Trust::Squash, _) => NOBODY,
            (Trust::All | Trust::Peer { uid: 0, .. }, asked) => asked.unwrap_or(NOBODY),
            (Trust::Peer { uid, .. }, Some(asked)) if asked != uid => return Err(Error::EPERM),
            (Trust::Peer { uid, .. }, _) => uid,
        };
        let gid = match trust {
            Trust::Squash => Some(self.gid_of_nobody()),
            Trust::Peer { uid: own, gid } if own == uid => Some(gid),
            Trust::Peer { .. } | Trust::All => self.primary.get(&uid).copied(),
        };
        Ok(User { uid, gid, vouched: trust.is_anyone(), peer })
    }

    /// The group that a request names. Where everyone is nobody, every group is that of nobody.
    pub(super) fn named_group(&self, trust: Trust, gid: u32) -> Option<u32> {
        let named = (gid != !0).then_some(gid);
        if trust == Trust::Squash { named.map(|_| self.gid_of_nobody()) } else { named }
    }

    fn gid_of_nobody(&self) -> u32 {
        self.primary.get(&NOBODY).copied().unwrap_or(NOBODY)
    }
}

fn decimal(name: &[u8]) -> Option<u32> {
    // !0 is no user: it means that none was named.
    let number: u32 = std::str::from_utf8(name).ok()?.parse().ok()?;
    (number != !0 && name.first().is_some_and(u8::is_ascii_digit)).then_some(number)
}

/// A name, or the number in decimal where there is none. Allocates nothing.
pub(super) enum Name<'a> {
    Known(&'a [u8]),
    Number([u8; 10], usize),
}

impl<'a> Name<'a> {
    fn of(known: Option<&'a [u8]>, mut number: u32) -> Name<'a> {
        if let Some(name) = known {
            return Name::Known(name);
        }
        let mut digits = [b'0'; 10];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Name::Number(digits, start);
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Known(name) => name,
            Name::Number(digits, start) => &digits[*start..],
        }
    }
}

/// Who a peer may act for, as its listener and its socket say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anyone: n_uname is believed.
    All,
    /// The user at the other end; 0 may act for anyone, since v9fs mounts as root and attaches per user.
    Peer {
        /// Its uid.
        uid: u32,
        /// Its group, as the kernel has it.
        gid: u32,
    },
    /// Nobody, whatever is asked.
    Squash,
}

impl Trust {
    /// Whether the peer may act for anyone.
    fn is_anyone(self) -> bool {
        matches!(self, Trust::All | Trust::Peer { uid: 0, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(trust: Trust, uname: &str, n_uname: u32) -> Result<u32> {
        let users = Users::parse("root:x:0:0:::\nann:x:1000:100:::\nbad line\n", "staff:x:50:ann\n");
        users.resolve(trust, 0, uname.as_bytes(), n_uname).map(|user| user.uid)
    }

    #[test]
    fn n_uname_wins_then_number_then_table_then_nobody() {
        assert_eq!(uid(Trust::All, "ann", 7), Ok(7));
        assert_eq!(uid(Trust::All, "12", !0), Ok(12));
        assert_eq!(uid(Trust::All, "ann", !0), Ok(1000));
        assert_eq!(uid(Trust::All, "glenda", !0), Ok(NOBODY));
        assert_eq!(uid(Trust::All, "4294967295", !0), Ok(NOBODY), "the number that names none");
        assert_eq!(uid(Trust::All, "", 0), Ok(0), "an empty uname with a number is what v9fs sends");
    }

    #[test]
    fn trust_decides() {
        assert_eq!(uid(Trust::Squash, "root", 0), Ok(NOBODY));
        assert_eq!(uid(Trust::Peer { uid: 1000, gid: 7 }, "", 0), Err(Error::EPERM), "nobody claims to be root");
        assert_eq!(uid(Trust::Peer { uid: 1000, gid: 7 }, "root", !0), Err(Error::EPERM));
        assert_eq!(uid(Trust::Peer { uid: 1000, gid: 7 }, "", 1000), Ok(1000));
        assert_eq!(
            uid(Trust::Peer { uid: 1000, gid: 7 }, "glenda", !0),
            Ok(1000),
            "an unknown name is the one who asks"
        );
        assert_eq!(uid(Trust::Peer { uid: 0, gid: 7 }, "", 1000), Ok(1000));
    }

    /// The group of a user is that of the socket or of the table; a number alone has none. Who may act for anyone is believed.
    #[test]
    fn trust_decides_what_is_known_of_groups() {
        let users = Users::parse("ann:x:1000:100\nnobody:x:65534:99\n", "");
        let of = |trust, uid| users.resolve(trust, 0, b"", uid).map(|user| (user.gid, user.vouched));
        let root = Trust::Peer { uid: 0, gid: 5 };
        assert_eq!(of(Trust::All, 1000), Ok((Some(100), true)));
        assert_eq!(of(Trust::All, 50), Ok((None, true)), "user 50 need not be in group 50");
        assert_eq!(
            (of(root, 0), of(root, 1000), of(root, 50)),
            (Ok((Some(5), true)), Ok((Some(100), true)), Ok((None, true)))
        );
        assert_eq!(of(Trust::Peer { uid: 1000, gid: 7 }, 1000), Ok((Some(7), false)));
        assert_eq!(of(Trust::Squash, 1000), Ok((Some(99), false)));
        let named = |trust| (users.named_group(trust, 0), users.named_group(trust, !0));
        assert_eq!(named(Trust::Squash), (Some(99), None), "groups are squashed with their users");
        assert_eq!((named(Trust::All), named(root)), ((Some(0), None), (Some(0), None)));
        assert_eq!(Users::default().named_group(Trust::Squash, 0), Some(NOBODY));
    }

    #[test]
    fn users_are_in_their_primary_group_and_where_they_are_listed() {
        let passwd = "ann:x:1000:100\nbob:x:1001:100\nroot:x:0:0\n";
        let group =
            "# groups\nusers:x:100:\nstaff:x:50:ann, bob\nops:x:51:nobody,bob,1002,,\nbad:x:y:ann\nshort:x:52\n\n";
        let of: Vec<_> = Users::parse(passwd, group).memberships().collect();
        let primary = [(0, 0), (1000, 100), (1001, 100)];
        let listed = [(1000, 50), (1001, 50), (1001, 51), (1002, 51)];
        assert_eq!(of, [&primary[..], &listed].concat(), "who has no name may be listed by number");
    }

    #[test]
    fn names_and_numbers() {
        let users = Users::parse("ann:x:1000:100", "staff:x:50");
        assert_eq!(users.user_name(1000).as_bytes(), b"ann");
        assert_eq!(users.user_name(u32::MAX).as_bytes(), b"4294967295");
        assert_eq!(users.group_name(0).as_bytes(), b"0");
        assert_eq!(
            (users.gid(b"staff"), users.gid(b"51"), users.gid(b"+5"), users.gid(b"")),
            (Some(50), Some(51), None, None)
        );
        assert_eq!(
            users.resolve(Trust::All, 3, b"ann", !0),
            Ok(User { uid: 1000, gid: Some(100), vouched: true, peer: 3 })
        );
    }
}
