//! A client that says given bytes and keeps what it hears: for conversations that are held on other rings too.

use crate::kernel::socket::Socket;
use crate::random::Random;

/// Its other end is a connection that was there before anything began.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) number: usize,
    script: Vec<u8>,
    said: usize,
    /// Where each message ends, if it waits for the reply to one before it says the next.
    ends: Option<Vec<usize>>,
    pub(crate) heard: Vec<u8>,
}

impl Scripted {
    pub(crate) fn new(number: usize, script: &[u8], in_turn: bool) -> Scripted {
        let ends = in_turn.then(|| ends(script));
        Scripted { number, script: script.to_vec(), said: 0, ends, heard: Vec::new() }
    }

    /// Up to where it speaks before it hears more.
    fn until(&self) -> usize {
        let Some(all) = &self.ends else { return self.script.len() };
        all.get(ends(&self.heard).len()).copied().unwrap_or(self.script.len())
    }

    pub(crate) fn can_act(&self, socket: &Socket) -> bool {
        let says = self.said < self.until() && socket.say_room() > 0;
        let ends = self.said == self.script.len() && !socket.finished;
        says || ends || !socket.to_client.is_empty()
    }

    pub(crate) fn act(&mut self, socket: &mut Socket, random: &mut Random) {
        let most = socket.say_room().min(self.until() - self.said);
        if !socket.to_client.is_empty() && (most == 0 || random.one_in(2)) {
            let n = random.part(socket.to_client.len());
            self.heard.extend(socket.to_client.drain(..n));
        } else if most > 0 {
            let n = random.part(most);
            socket.to_server.extend(&self.script[self.said..self.said + n]);
            self.said += n;
        }
        // Half-closed: what is under way still comes, then the end.
        socket.finished = self.said == self.script.len();
    }
}

/// Where each whole message ends.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(head) = ring9::wire::head(&bytes[at..]) {
        at += head.size as usize;
        if at > bytes.len() {
            break;
        }
        found.push(at);
    }
    found
}
