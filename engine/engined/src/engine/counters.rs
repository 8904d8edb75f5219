//! What the engine counts, by name. The numbers lie in shared memory and outlive the engine.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($variant:ident $name:literal)*) => {
        #[derive(Clone, Copy)]
        pub enum Counter { $($variant),* }
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

counters! {
    // work
    TunReads "tunReads"
    TunWrites "tunWrites"
    PacketsSent "packetsSent"
    PacketsReceived "packetsReceived"
    UdpSends "udpSends"
    UdpReceives "udpReceives"
    KeepalivesSent "keepalivesSent"
    KeepalivesReceived "keepalivesReceived"
    HandshakesReceived "handshakesReceived"
    HandshakesSent "handshakesSent"
    EngineStarts "engineStarts"
    SegmentFallback "segmentFallback"
    // drops on the way out
    NotIpOut "dropNotIpOut"
    NoPeer "dropNoPeer"
    NoEndpoint "dropNoEndpoint"
    BadOffload "dropBadOffload"
    WaitingOverflow "dropWaitingOverflow"
    WaitingGivenUp "dropWaitingGivenUp"
    NumbersExhausted "dropCounterExhausted"
    SendFailed "dropSendFailed"
    NoSocket "dropNoSocket"
    // drops on the way in
    UnknownMessage "dropUnknownMessage"
    UnknownSession "dropUnknownSession"
    ExpiredSession "dropExpiredSession"
    Forged "dropForged"
    Replayed "dropReplayed"
    NotIpIn "dropNotIpIn"
    WrongSource "dropWrongSource"
    EcnInvalid "dropEcnInvalid"
    TunWriteFailed "dropTunWriteFailed"
    HandshakeOverflow "dropHandshakeOverflow"
    PortZero "dropPortZero"
    // IPsec: names of the kernel (Documentation/networking/xfrm_proc.rst)
    RawSends "rawSends"
    RawReceives "rawReceives"
    XfrmInError "XfrmInError"
    XfrmInHdrError "XfrmInHdrError"
    XfrmInNoStates "XfrmInNoStates"
    XfrmInStateProtoError "XfrmInStateProtoError"
    XfrmInStateModeError "XfrmInStateModeError"
    XfrmInStateSeqError "XfrmInStateSeqError"
    XfrmInTmplMismatch "XfrmInTmplMismatch"
    XfrmOutNoStates "XfrmOutNoStates"
    XfrmOutStateSeqError "XfrmOutStateSeqError"
    XfrmOutError "XfrmOutError"
    // the numbers above lie in shared memory by their places: others follow
    LinkSends "linkSends"
    ForgedHandshake "dropForgedHandshake"
}

pub const ROOM: usize = 64;
const _: () = assert!(NAMES.len() <= ROOM);

pub struct Counters<'a>(pub &'a [AtomicU64; ROOM]);

impl Counters<'_> {
    #[inline]
    pub fn add(&self, counter: Counter, count: u64) {
        self.0[counter as usize].fetch_add(count, Relaxed);
    }

    /// For what a single thread counts by the packet: no locked instruction.
    #[inline]
    pub fn one_of_mine(&self, counter: Counter) {
        let number = &self.0[counter as usize];
        number.store(number.load(Relaxed) + 1, Relaxed);
    }

    #[inline]
    pub fn one(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Those whose names `counts` has, and `more`.
    pub fn json(&self, counts: impl Fn(&str) -> bool, more: &[(&str, u64)]) -> String {
        let own = NAMES.iter().enumerate().filter(|(_, name)| counts(name));
        let own = own.map(|(index, name)| (*name, self.0[index].load(Relaxed)));
        let items: Vec<String> =
            own.chain(more.iter().copied()).map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", items.join(","))
    }
}
