//! What can go wrong, how often it does in one simulation, and how often it did.

use crate::random::Random;
use crate::run::Serves;

macro_rules! faults {
    ($($name:ident $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the texts say what they are")]
        pub enum Fault { $($name,)* }

        impl Fault {
            /// Every kind.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            /// Its name, as flags and figures have it.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }
        }
    };
}

faults! {
    ShortReceive "short-receive",
    ShortSend "short-send",
    ReceiveInterrupted "receive-interrupted",
    ReceiveFails "receive-fails",
    SendInterrupted "send-interrupted",
    SendFails "send-fails",
    FullSocket "full-socket",
    NoBuffer "no-buffer",
    MultishotEnds "multishot-ends",
    AcceptEnds "accept-ends",
    AcceptFails "accept-fails",
    AcceptNoFiles "accept-no-files",
    LateCompletion "late-completion",
    CancelMisses "cancel-misses",
    StaleCompletion "stale-completion",
    QueueFull "queue-full",
    PartialSubmit "partial-submit",
    NothingSubmitted "nothing-submitted",
    CompletionsOverflow "completions-overflow",
    PopulateFails "populate-fails",
    RegisterFails "register-fails",
    TimeStops "time-stops",
    PeerResets "peer-resets",
    PeerVanishes "peer-vanishes",
    PeerStalls "peer-stalls",
    PeerNeverReads "peer-never-reads",
    PeerTalksRubbish "peer-talks-rubbish",
    PeerReusesTags "peer-reuses-tags",
    PeerDrips "peer-drips",
    PeerHoards "peer-hoards",
    TreeWaits "tree-waits",
    TreeLendsNothing "tree-lends-nothing",
    StaleFlag "stale-flag",
    WokenForNothing "woken-for-nothing",
    LogLines "log-lines",
    LogShort "log-short-write",
    LogInterrupted "log-write-interrupted",
    LogFails "log-write-fails",
    LogStuck "log-write-stuck",
    AskShort "ask-short",
    AskInterrupted "ask-interrupted",
    AskFails "ask-fails",
    TreeLate "tree-late",
    ReplyGated "reply-gated",
    TreeBehind "tree-behind",
    GateHolds "gate-let-out",
    ReplyOvertakes "reply-overtakes",
    FarVanishes "far-vanishes",
    FarRefuses "far-refuses",
    FarHangs "far-hangs",
    FarSilent "far-silent",
    FarTalksRubbish "far-talks-rubbish",
    FarLate "far-late",
    FarFails "far-fails",
    FarWaits "far-waits",
    PowerFails "power-fails",
    DiskForgets "disk-forgets",
    DiskFlips "disk-flips",
    StartRefused "start-refused",
}

impl Fault {
    /// Whether this kind of fault can happen where the server serves `serves`.
    pub fn may_happen(self, serves: Serves) -> bool {
        let of_far = (Fault::FarVanishes as usize..=Fault::FarWaits as usize).contains(&(self as usize));
        let of_disk = self as usize >= Fault::PowerFails as usize;
        // A far server is given whole messages, so it asks its tree for no memory.
        let of_slow = matches!(
            self,
            Fault::TreeWaits
                | Fault::TreeLendsNothing
                | Fault::TreeLate
                | Fault::ReplyGated
                | Fault::TreeBehind
                | Fault::GateHolds
                | Fault::ReplyOvertakes
        );
        match serves {
            Serves::Tree => !of_far && !of_disk,
            Serves::Relay => !of_slow && !of_disk,
            Serves::Store => !of_far && (!of_slow || matches!(self, Fault::GateHolds | Fault::ReplyOvertakes)),
        }
    }
}

const COUNT: usize = Fault::ALL.len();

/// The rates of one simulation, and what has happened.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    per_mille: [u32; COUNT],
    fired: [u64; COUNT],
    calm: bool,
}

impl Faults {
    /// By seed some kinds never happen, some now and then, some all the time.
    pub(crate) fn new(random: &mut Random, without: &[Fault]) -> Faults {
        let mut per_mille = [0; COUNT];
        for &fault in Fault::ALL {
            // Where each one ends a connection there would be nothing else.
            let rate = match fault {
                Fault::ReceiveFails | Fault::SendFails => random.of(&[0, 0, 1, 5, 20]),
                Fault::TreeWaits => random.of(&[0, 0, 5, 50, 900]),
                Fault::FarWaits => random.of(&[0, 0, 50, 300, 900]),
                // Each one ends what all clients have.
                Fault::FarVanishes | Fault::FarTalksRubbish => random.of(&[0, 0, 1, 5, 50]),
                // Each of the two happens in two of five seeds.
                Fault::TreeLate | Fault::ReplyGated => random.of(&[0, 0, 0, 60, 500]),
                // Only counted.
                Fault::GateHolds
                | Fault::ReplyOvertakes
                | Fault::PowerFails
                | Fault::DiskForgets
                | Fault::DiskFlips
                | Fault::StartRefused => 0,
                _ => random.of(&[0, 0, 5, 30, 250]),
            };
            if !without.contains(&fault) {
                per_mille[fault as usize] = rate;
            }
        }
        Faults { per_mille, fired: [0; COUNT], calm: false }
    }

    /// None at all.
    pub(crate) fn none() -> Faults {
        Faults { per_mille: [0; COUNT], fired: [0; COUNT], calm: true }
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&mut self) {
        self.calm = true;
    }

    /// Whether this goes wrong now; counted.
    pub(crate) fn fires(&mut self, fault: Fault, random: &mut Random) -> bool {
        let fires = !self.calm && random.per_mille(self.per_mille[fault as usize]);
        self.fired[fault as usize] += u64::from(fires);
        fires
    }

    /// It has happened in another way.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.fired[fault as usize] += 1;
    }

    /// Whether this may happen at all here.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.per_mille[fault as usize] > 0
    }

    /// How often each kind has happened.
    pub(crate) fn fired(&self) -> &[u64] {
        &self.fired
    }
}
