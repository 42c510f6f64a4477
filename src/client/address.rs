//! Addresses of servers: `tcp:HOST:PORT` or `unix:PATH`, the form of `--listen` and `--addr`; and
//! the default socket of server and client.

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
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
    /// temporary directory.
    pub fn default_socket() -> Address {
        Address::Unix(default_folder().join("ring9.sock"))
    }

    /// The same, for the server: makes the folder, and refuses one that is another's.
    pub fn default_socket_for_server() -> io::Result<Address> {
        let folder = default_folder();
        if folder.starts_with(std::env::temp_dir()) {
            make_private(&folder)?;
        }
        Ok(Address::default_socket())
    }
}

fn default_folder() -> PathBuf {
    let uid = nix::unistd::geteuid();
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => dir.into(),
        None if uid.is_root() => "/run".into(),
        None => std::env::temp_dir().join(format!("ring9-{uid}")),
    }
}

/// Makes a folder of mode 0700, or takes one that is just so. Anyone can make names in a temporary directory.
fn make_private(folder: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = std::fs::symlink_metadata(folder)?;
            let ours = there.uid() == nix::unistd::geteuid().as_raw();
            if there.is_dir() && ours && there.permissions().mode() & 0o077 == 0 {
                Ok(())
            } else {
                let text = format!("{} is not a folder of ours alone", folder.display());
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
        }
        made => made,
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
        let folder = std::env::temp_dir().join(format!("ring9-private-{}", std::process::id()));
        make_private(&folder).expect("it is new");
        make_private(&folder).expect("it is ours");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        assert!(make_private(&folder).is_err());
        std::fs::remove_dir(&folder).expect("it is empty");
    }
}
