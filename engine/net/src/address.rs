//! Socket addresses as the kernel wants them, from and to `Endpoint`.

use pellicle_proto::endpoint::Endpoint;

/// Room for either family; `length` says how much of it counts.
#[derive(Clone, Copy)]
#[repr(C)]
pub union SocketAddress {
    pub family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Default for SocketAddress {
    fn default() -> Self {
        // SAFETY: all zero is a valid sockaddr_in6.
        SocketAddress { v6: unsafe { std::mem::zeroed() } }
    }
}

impl SocketAddress {
    pub fn new(endpoint: &Endpoint) -> (SocketAddress, u32) {
        let mut address = SocketAddress::default();
        if endpoint.family == 4 {
            let [a, b, c, d, ..] = endpoint.address;
            address.v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: endpoint.port.to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([a, b, c, d]) },
                sin_zero: [0; 8],
            };
            (address, size_of::<libc::sockaddr_in>() as u32)
        } else {
            address.v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: endpoint.port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: endpoint.address },
                sin6_scope_id: endpoint.scope,
            };
            (address, size_of::<libc::sockaddr_in6>() as u32)
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        // SAFETY: every variant begins with the family and plain numbers follow.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => Endpoint::v4(self.v4.sin_addr.s_addr.to_ne_bytes(), u16::from_be(self.v4.sin_port)),
                libc::AF_INET6 => {
                    Endpoint::v6(self.v6.sin6_addr.s6_addr, u16::from_be(self.v6.sin6_port), self.v6.sin6_scope_id)
                }
                _ => Endpoint::NONE,
            }
        }
    }
}
