//! Addresses of servers: `tcp:HOST:PORT` or `unix:PATH`, the form of `--listen` and `--addr`; and
//! the default socket of server and client.

use crate::fs::Remote;
use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::str::FromStr;

/// An address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name or number, without brackets, and a port.
    Tcp {
        /// IPv4, IPv6 or a name.
        host: String,
        /// 0 lets a server take a free one.
        port: u16,
    },
    /// A path.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    /// Plan 9's form with `!` is understood as well.
    fn from_str(text: &str) -> Result<Address, String> {
        let (kind, rest) = text
            .split_once([':', '!'])
            .ok_or_else(|| format!("{text:?} is no address: tcp:HOST:PORT or unix:PATH is"))?;
        match kind {
            "unix" if rest.is_empty() => Err("the path of the socket is missing: unix:PATH".into()),
            "unix" => Ok(Address::Unix(rest.into())),
            "tcp" => {
                let (host, port) = rest.rsplit_once([':', '!']).ok_or("the port is missing: tcp:HOST:PORT")?;
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                let port = port.parse().map_err(|_| format!("{port:?} is no port: 0 to 65535"))?;
                if host.is_empty() {
                    return Err("the host is missing: tcp:HOST:PORT".into());
                }
                Ok(Address::Tcp { host: host.into(), port })
            }
            _ => Err(format!("unknown kind {kind:?}: tcp:HOST:PORT or unix:PATH")),
        }
    }
}

impl TryFrom<&str> for Address {
    type Error = String;

    fn try_from(text: &str) -> Result<Address, String> {
        text.parse().map_err(|why: String| if why.contains(text) { why } else { format!("{text}: {why}") })
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Address, String> {
        text.as_str().try_into()
    }
}

impl TryFrom<&String> for Address {
    type Error = String;

    fn try_from(text: &String) -> Result<Address, String> {
        text.as_str().try_into()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Where a server of this user listens if nothing is said: `ring9.sock` under `$XDG_RUNTIME_DIR`, else /run for root, else a folder of the user's own in the
    /// temporary directory. A folder in which another user could put a socket is refused, at both
    /// ends. The folder need not be there.
    pub fn default_socket() -> io::Result<Address> {
        let folder = Folder::default();
        match folder.check() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Address::Unix(folder.path.join("ring9.sock"))),
        }
    }

    /// The same, for the server: a folder in the temporary directory is made.
    pub fn default_socket_for_server() -> io::Result<Address> {
        Folder::default().make()?;
        Address::default_socket()
    }

    /// The address as a number, or the path. A name is looked up, which may take long, and its first address is taken.
    pub fn look_up(&self) -> io::Result<Remote> {
        Ok(match self {
            Address::Tcp { host, port } => {
                let mut found = (host.as_str(), *port).to_socket_addrs()?;
                Remote::Tcp(found.next().ok_or_else(|| io::Error::other("the name has no address"))?)
            }
            Address::Unix(path) => Remote::Unix(path.as_os_str().as_bytes().into()),
        })
    }
}

/// The folder of the default socket.
struct Folder {
    path: PathBuf,
    /// It is made by the server, in a directory in which anyone can make names.
    is_made: bool,
}

impl Default for Folder {
    fn default() -> Folder {
        let uid = nix::unistd::geteuid();
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => Folder { path: dir.into(), is_made: false },
            None if uid.is_root() => Folder { path: "/run".into(), is_made: false },
            None => Folder { path: std::env::temp_dir().join(format!("ring9-{uid}")), is_made: true },
        }
    }
}

impl Folder {
    /// Makes it, of mode 0700, if that is the server's to do.
    fn make(&self) -> io::Result<()> {
        let made = if self.is_made { std::fs::DirBuilder::new().mode(0o700).create(&self.path) } else { Ok(()) };
        made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
    }

    /// Whether this user, and root, are the only ones who can put a socket there. A folder that the
    /// server makes is the user's alone; another one may be root's, and others may look into it.
    fn check(&self) -> io::Result<()> {
        let (there, others) = match self.is_made {
            true => (std::fs::symlink_metadata(&self.path)?, 0o077),
            false => (std::fs::metadata(&self.path)?, 0o022),
        };
        let is_owned = there.uid() == nix::unistd::geteuid().as_raw() || !self.is_made && there.uid() == 0;
        if there.is_dir() && is_owned && there.permissions().mode() & others == 0 {
            return Ok(());
        }
        let path = self.path.display();
        let (uid, mode) = (there.uid(), there.permissions().mode() & 0o7777);
        let text = format!("{path} is not a folder of this user alone: it is user {uid}'s, with mode {mode:04o}");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_read() {
        for text in
            ["tcp:127.0.0.1:564", "tcp:[::1]:0", "tcp:host.example:65535", "unix:/run/ring9.sock", "unix:with:colon"]
        {
            assert_eq!(text.parse::<Address>().expect("an address").to_string(), text);
        }
        assert_eq!("tcp!localhost!564".parse(), Ok(Address::Tcp { host: "localhost".into(), port: 564 }));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("localhost", "no address"),
            ("tcp:localhost", "port"),
            ("tcp:localhost:99999", "port"),
            ("tcp::1", "host"),
            ("unix:", "path"),
            ("udp:a:1", "unknown kind"),
        ] {
            let error = text.parse::<Address>().expect_err("no address");
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let path = std::env::temp_dir().join(format!("ring9-private-{}", std::process::id()));
        let made = Folder { path: path.clone(), is_made: true };
        assert_eq!(made.check().expect_err("it is not there").kind(), io::ErrorKind::NotFound);
        made.make().expect("it is new");
        made.make().expect("it is ours");
        made.check().expect("it is ours alone");
        let given = Folder { path: path.clone(), is_made: false };
        for (mode, is_private, is_closed) in
            [(0o700, true, true), (0o755, false, true), (0o775, false, false), (0o1777, false, false)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
            assert_eq!((made.check().is_ok(), given.check().is_ok()), (is_private, is_closed), "{mode:o}");
        }
        // A link to a folder is somebody's choice, too.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
        let link = path.with_extension("link");
        std::os::unix::fs::symlink(&path, &link).expect("the name is free");
        assert!(Folder { path: link.clone(), is_made: true }.check().is_err());
        std::fs::remove_file(&link).expect("it is ours");
        std::fs::remove_dir(&path).expect("it is empty");
    }

    #[test]
    fn addresses_are_looked_up() {
        let remote = |text: &str| text.parse::<Address>().expect("an address").look_up().expect("a number, or a path");
        assert_eq!(remote("tcp:127.0.0.1:80"), Remote::Tcp(([127, 0, 0, 1], 80).into()));
        assert_eq!(remote("tcp:[::1]:0"), Remote::Tcp((std::net::Ipv6Addr::LOCALHOST, 0).into()));
        assert_eq!(remote("unix:/a/b"), Remote::Unix(b"/a/b"[..].into()));
    }
}
