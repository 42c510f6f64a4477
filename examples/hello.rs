//! A tree of three files: a text, a counter of its opens, and a clock.
//!
//! ```text
//! cargo run --example hello -- unix:./hello.sock
//! r9 --addr unix:./hello.sock cat /hello /count /clock
//! ```

use ring9::fs::catalog::{Catalog, Node, Source};
use ring9::fs::{At, Out, Result};
use ring9::serve::Builder;

const COUNT: usize = 2;
const CLOCK: usize = 3;

#[derive(Default)]
pub(crate) struct Hello {
    opens: u64,
    now: At,
}

impl Hello {
    /// The tree, as anything that serves trees takes it.
    pub(crate) fn tree() -> Catalog<Hello> {
        let files = ["hello", "count", "clock"].map(|name| Node::file(name, 0o444));
        Catalog::of([Node::ROOT].into_iter().chain(files).collect(), Hello::default())
    }

    fn text(&self, file: usize) -> String {
        match file {
            COUNT => format!("{:9}\n", self.opens),
            CLOCK => format!("{:12}\n", self.now.wall.sec),
            _ => "hello, world\n".to_owned(),
        }
    }
}

impl Source for Hello {
    type Opened = String;

    fn open(&mut self, file: usize, at: At) -> Result<String> {
        self.now = at;
        self.opens += u64::from(file == COUNT);
        Ok(self.text(file))
    }

    fn size(&self, file: usize, opened: Option<&String>) -> u64 {
        opened.map_or_else(|| self.text(file).len(), String::len) as u64
    }

    fn read(&mut self, _: usize, opened: &String, offset: u64, mut out: Out<'_>) -> Result<()> {
        out.bytes_from(opened.as_bytes(), offset);
        Ok(())
    }
}

fn main() -> std::result::Result<(), ring9::serve::Error> {
    let address = std::env::args().nth(1).unwrap_or("unix:./hello.sock".to_owned());
    let ready = |at: &[ring9::serve::Listening]| println!("hello ready {}", at[0].address);
    Builder::new().tree(Hello::tree()).listen(address).on_ready(ready).run()
}
