//! What the keeper asks of the engine (docs/protocol/engine.md, "Keeper → engine").

use crate::endpoint::{Endpoint, Outer};
use crate::prefix::Prefix;
use crate::reader::Reader;

#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The number that the answer carries.
    pub id: u32,
    pub order: Order<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Order<'a> {
    SetPeer {
        peer: u32,
        public_key: [u8; 32],
        endpoint: Endpoint,
    },
    RemovePeer {
        peer: u32,
    },
    Allow {
        peer: u32,
        prefixes: Vec<Prefix>,
    },
    Disallow {
        peer: u32,
        prefixes: Vec<Prefix>,
    },
    SetSession(NewSession),
    RemoveSession {
        local: u32,
    },
    Send {
        source: Endpoint,
        destination: Endpoint,
        tos: u8,
        message: &'a [u8],
    },
    Keepalive {
        peer: u32,
    },
    Dump,
    Counters,
    ClearSessions {
        peer: u32,
    },
    DropWaiting {
        peer: u32,
    },
    /// All zero: handshake messages are not checked.
    SetMacKey {
        key: [u8; 32],
    },
    SetSending(NewSending<'a>),
    SetReceiving(NewReceiving<'a>),
    RemoveAssociation {
        direction: Direction,
        peer: u32,
        spi: u32,
        fingerprint: [u8; 8],
    },
    /// A type or a body that this engine does not know: answered with status 3.
    Malformed(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NewSession {
    pub peer: u32,
    pub place: Place,
    pub role: Role,
    pub local: u32,
    pub remote: u32,
    pub born: u64,
    pub send_key: [u8; 32],
    pub receive_key: [u8; 32],
}

impl std::fmt::Debug for NewSession {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "NewSession(peer {}, {:?}, {:?}, local {:x})", self.peer, self.place, self.role, self.local)
    }
}

/// An association to send by (IPsec).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSending<'a> {
    pub peer: u32,
    pub spi: u32,
    /// ESP in UDP to this port; none: IP protocol 50.
    pub udp: Option<u16>,
    pub outer: Outer,
    pub keys: AssociationKeys<'a>,
}

/// One to receive by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewReceiving<'a> {
    pub peer: u32,
    pub spi: u32,
    pub outer: Outer,
    pub keys: AssociationKeys<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AssociationKeys<'a> {
    pub algorithm: u8,
    /// Of the integrity check value, in bytes.
    pub icv: u8,
    pub encryption: &'a [u8],
    pub authentication: &'a [u8],
}

impl std::fmt::Debug for AssociationKeys<'_> {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "AssociationKeys(algorithm {}, icv {})", self.algorithm, self.icv)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In = 1,
    Out = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Previous = 0,
    Current = 1,
    Next = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Initiator = 1,
    Responder = 2,
}

impl<'a> Request<'a> {
    /// `body` is what follows the type. A body shorter than the request number has none to answer: id 0.
    pub fn decode(kind: u8, body: &'a [u8]) -> Request<'a> {
        let mut reader = Reader::new(body);
        let Some(id) = reader.u32() else { return Request { id: 0, order: Order::Malformed("no request number") } };
        let order = match kind {
            0x80 => set_peer(&mut reader),
            0x81 => peer_only(&mut reader).map(|peer| Order::RemovePeer { peer }),
            0x82 => prefixes(&mut reader).map(|(peer, prefixes)| Order::Allow { peer, prefixes }),
            0x83 => prefixes(&mut reader).map(|(peer, prefixes)| Order::Disallow { peer, prefixes }),
            0x84 => session(&mut reader).map(Order::SetSession),
            0x85 => peer_only(&mut reader).map(|local| Order::RemoveSession { local }),
            0x86 => send(&mut reader),
            0x87 => peer_only(&mut reader).map(|peer| Order::Keepalive { peer }),
            0x88 => reader.end(Order::Dump),
            0x89 => reader.end(Order::Counters),
            0x8a => peer_only(&mut reader).map(|peer| Order::ClearSessions { peer }),
            0x8b => peer_only(&mut reader).map(|peer| Order::DropWaiting { peer }),
            0x8c => reader.array().and_then(|key| reader.end(Order::SetMacKey { key })),
            0x90 => sending(&mut reader).map(Order::SetSending),
            0x91 => receiving(&mut reader).map(Order::SetReceiving),
            0x92 => removal(&mut reader),
            _ => Some(Order::Malformed("unknown type")),
        };
        Request { id, order: order.unwrap_or(Order::Malformed("malformed body")) }
    }
}

fn peer_only(reader: &mut Reader) -> Option<u32> {
    let number = reader.u32()?;
    reader.end(number)
}

fn set_peer<'a>(reader: &mut Reader) -> Option<Order<'a>> {
    let order =
        Order::SetPeer { peer: reader.u32()?, public_key: reader.array()?, endpoint: Endpoint::decode(reader)? };
    reader.end(order)
}

fn prefixes(reader: &mut Reader) -> Option<(u32, Vec<Prefix>)> {
    let (peer, count) = (reader.u32()?, reader.u32()?);
    let mut prefixes = Vec::new();
    for _ in 0..count {
        prefixes.push(Prefix::decode(reader)?);
    }
    reader.end((peer, prefixes))
}

fn session(reader: &mut Reader) -> Option<NewSession> {
    let peer = reader.u32()?;
    let place = match reader.u8()? {
        1 => Place::Current,
        2 => Place::Next,
        _ => return None,
    };
    let role = match reader.u8()? {
        1 => Role::Initiator,
        2 => Role::Responder,
        _ => return None,
    };
    let session = NewSession {
        peer,
        place,
        role,
        local: reader.u32()?,
        remote: reader.u32()?,
        born: reader.u64()?,
        send_key: reader.array()?,
        receive_key: reader.array()?,
    };
    reader.end(session)
}

fn send<'a>(reader: &mut Reader<'a>) -> Option<Order<'a>> {
    let (source, destination) = (Endpoint::decode(reader)?, Endpoint::decode(reader)?);
    let tos = reader.u8()?;
    let fits = destination.family != 0 && (source.family == 0 || source.family == destination.family);
    fits.then_some(Order::Send { source, destination, tos, message: reader.rest() })
}

fn sending<'a>(reader: &mut Reader<'a>) -> Option<NewSending<'a>> {
    let (peer, spi, encapsulation, port) = (reader.u32()?, spi(reader)?, reader.u8()?, reader.u16()?);
    let udp = match (encapsulation, port) {
        (0, _) => None,
        (1, 1..) => Some(port),
        _ => return None,
    };
    let sending = NewSending { peer, spi, udp, outer: Outer::decode(reader)?, keys: keys(reader)? };
    reader.end(sending)
}

fn receiving<'a>(reader: &mut Reader<'a>) -> Option<NewReceiving<'a>> {
    let (peer, spi) = (reader.u32()?, spi(reader)?);
    let receiving = NewReceiving { peer, spi, outer: Outer::decode(reader)?, keys: keys(reader)? };
    reader.end(receiving)
}

/// 0 is the mark of what is not ESP (RFC 4303, section 2.1; RFC 3948, section 2.2).
fn spi(reader: &mut Reader) -> Option<u32> {
    reader.u32().filter(|spi| *spi != 0)
}

fn keys<'a>(reader: &mut Reader<'a>) -> Option<AssociationKeys<'a>> {
    let (algorithm, icv) = (reader.u8()?, reader.u8()?);
    let mut bytes = || {
        let length = reader.u8()?;
        reader.bytes(length.into())
    };
    let (encryption, authentication) = (bytes()?, bytes()?);
    Some(AssociationKeys { algorithm, icv, encryption, authentication })
}

fn removal<'a>(reader: &mut Reader) -> Option<Order<'a>> {
    let direction = match reader.u8()? {
        1 => Direction::In,
        2 => Direction::Out,
        _ => return None,
    };
    let order =
        Order::RemoveAssociation { direction, peer: reader.u32()?, spi: reader.u32()?, fingerprint: reader.array()? };
    reader.end(order)
}
