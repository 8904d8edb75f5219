//! Explicit congestion notification through a tunnel (RFC 6040). The two ECN bits: 0 not capable, 1 ECT(1), 2 ECT(0), 3 CE.

/// What the outer header carries (section 4.1, normal mode): the inner field as it is.
#[inline]
pub fn encapsulate(inner: u8) -> u8 {
    inner & 3
}

/// What the inner header becomes (section 4.2, figure 4); `None`: the packet must be dropped (CE on a flow that cannot hear it).
#[inline]
pub fn decapsulate(inner: u8, outer: u8) -> Option<u8> {
    match (inner & 3, outer & 3) {
        (0, 3) => None,
        (0, _) => Some(0),
        (3, _) | (_, 3) => Some(3),
        (2, 1) => Some(1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_4() {
        // rows: inner 0 (Not-ECT), 2 (ECT(0)), 1 (ECT(1)), 3 (CE); columns: outer 0, 2, 1, 3
        let table = [
            (0, [Some(0), Some(0), Some(0), None]),
            (2, [Some(2), Some(2), Some(1), Some(3)]),
            (1, [Some(1), Some(1), Some(1), Some(3)]),
            (3, [Some(3), Some(3), Some(3), Some(3)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [0, 2, 1, 3].into_iter().zip(row) {
                assert_eq!(decapsulate(inner, outer), expected, "inner {inner}, outer {outer}");
            }
        }
    }
}
