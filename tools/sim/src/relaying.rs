//! A server whose only tree is a relay, with the far server of the world behind it.

use crate::far::Far;
use crate::kernel::faults::Fault;
use crate::run::{Left, Parts, Served};
use crate::world::World;
use ring9::fs::{At, Remote, Service};
use ring9::relay::{Config, Relay};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The relay, seen from outside.
pub(crate) struct Relaying {
    world: Rc<RefCell<World>>,
}

impl Relaying {
    pub(crate) fn begin(parts: Parts<'_>) -> impl FnOnce(&Rc<RefCell<World>>) -> (Relay, Relaying) + use<> {
        let Parts { seed, arena, random, faults, ledger, .. } = parts;
        let unix = Remote::Unix(b"/far"[..].into());
        let to = if random.one_in(2) { unix } else { Remote::Tcp(([127, 0, 0, 1], 9).into()) };
        let msize = random.of(&[8192, 66_000, 1 << 20]);
        let room = random.of(&[300, 5_000, 70_000, 300_000]);
        let far = Far::new(seed, faults, Rc::clone(ledger));
        let relay = Relay::new(Config { to, aname: None, msize, users: Arc::default() }, arena);
        move |world| {
            {
                let mut world = world.borrow_mut();
                world.kernel.has_far(room);
                world.far = Some(far);
            }
            (relay, Relaying { world: Rc::clone(world) })
        }
    }
}

impl Served for Relaying {
    type Tree = Relay;

    fn check_given_back(&self, relay: &mut Relay, left: Left) {
        assert!(left.sessions || relay.held() == 0, "leaks: {} files of the relay", relay.held());
        let world = &mut *self.world.borrow_mut();
        // Where the server was told to end, its connection may be closed before the last file is.
        if !world.kernel.is_signalled() {
            world.far.iter_mut().for_each(Far::check_closed);
        }
    }

    fn is_idle(&self, relay: &Relay) -> bool {
        !relay.has_asks()
    }

    fn check_end(&self, relay: &mut Relay, _: At, left: Left) -> Vec<(Fault, u64)> {
        let used = relay.arena_bytes();
        assert!(left.asks || left.sessions || used == 0, "leaks: {used} bytes of blocks of the relay");
        let World { far, kernel, .. } = &mut *self.world.borrow_mut();
        far.iter_mut().flat_map(|far| far.end_all(kernel)).collect()
    }

    fn asks(&self) -> u64 {
        self.world.borrow().far.as_ref().map_or(0, |far| far.requests)
    }
}
