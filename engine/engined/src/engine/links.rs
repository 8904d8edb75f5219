//! By which link packets reach a peer. The sending thread remembers answers and hears of changes before each use, so none
//! is used that the kernel would not give any more; the control thread asks, since the kernel may let that wait.

use pellicle_net::event::Event;
use pellicle_net::link::Link;
use pellicle_net::neighbour::{Change, Hop, changes, find};
use pellicle_net::send::Route;
use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

/// More are not remembered.
const ROOM: usize = 1 << 14;

/// What both threads share.
pub struct Links {
    /// −1: there is none.
    pub packet: RawFd,
    routes: RawFd,
    changes: RawFd,
    mark: AtomicU32,
    hops: u8,
    pub wanted: Event,
    questions: Mutex<Vec<Question>>,
    answers: Mutex<Vec<(Question, Option<Hop>)>>,
    answered: AtomicBool,
    marked: AtomicBool,
}

/// `number`: of changes that the asker had heard.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Question {
    route: Route,
    number: u64,
}

impl Links {
    pub fn new([packet, routes, changes]: [RawFd; 3], mark: u32, hops: u8) -> io::Result<Links> {
        Ok(Links {
            packet: if routes < 0 || changes < 0 { -1 } else { packet },
            routes,
            changes,
            mark: AtomicU32::new(mark),
            hops,
            wanted: Event::new()?,
            questions: Mutex::default(),
            answers: Mutex::default(),
            answered: AtomicBool::new(false),
            marked: AtomicBool::new(false),
        })
    }

    /// Routes may depend on the firewall mark.
    pub fn set_mark(&self, mark: u32) {
        self.mark.store(mark, SeqCst);
        self.marked.store(true, SeqCst);
    }

    /// The control thread's part.
    pub fn resolve(&self) {
        self.wanted.clear();
        let questions = std::mem::take(&mut *lock(&self.questions));
        for question in questions {
            let Route { source, destination, tos } = question.route;
            let hop = find(self.routes, &source, &destination, tos, self.mark.load(SeqCst), self.hops);
            lock(&self.answers).push((question, hop));
        }
        self.answered.store(true, SeqCst);
    }

    fn ask(&self, question: Question) {
        lock(&self.questions).push(question);
        self.wanted.notify();
    }
}

#[cfg(test)]
impl Links {
    /// Nobody else gets at questions and answers meanwhile.
    pub fn hold(&self) -> (impl Drop, impl Drop) {
        (lock(&self.questions), lock(&self.answers))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What the sending thread remembers.
#[derive(Default)]
pub struct Known {
    table: HashMap<Route, Entry>,
    /// How many changes were heard.
    number: u64,
}

enum Entry {
    Asked,
    /// `None`: by routing only, until routes change.
    Found(Option<Hop>),
}

impl Known {
    /// The link to send by, as of now; when it is not known, it is asked for.
    pub fn find(&mut self, links: &Links, route: &Route) -> Option<Link> {
        if links.packet < 0 || route.source.family != 4 {
            return None;
        }
        // answers first: a change that one of them missed is heard after it
        let answers =
            if links.answered.swap(false, SeqCst) { std::mem::take(&mut *lock(&links.answers)) } else { vec![] };
        self.hear(links);
        for (question, hop) in answers {
            if question.number == self.number {
                self.table.insert(question.route, Entry::Found(hop));
            } else {
                self.table.remove(&question.route);
            }
        }
        match self.table.get(route) {
            Some(Entry::Found(hop)) => hop.and_then(|hop| hop.link),
            Some(Entry::Asked) => None,
            None => {
                if self.table.len() < ROOM {
                    self.table.insert(*route, Entry::Asked);
                    links.ask(Question { route: *route, number: self.number });
                }
                None
            }
        }
    }

    /// The kernel refused to send by it.
    pub fn forget(&mut self, route: &Route) {
        self.table.remove(route);
    }

    fn hear(&mut self, links: &Links) {
        let Known { table, number } = self;
        if links.marked.swap(false, SeqCst) {
            *number += 1;
            forget_all(table);
        }
        changes(links.changes, |change| {
            *number += 1;
            match change {
                Change::Routes => forget_all(table),
                Change::Neighbour { device, address, mac } => table.retain(|_, entry| match entry {
                    Entry::Found(Some(hop)) if hop.device == device && hop.address == address => {
                        hop.link.map(|link| link.mac) == mac
                    }
                    _ => true,
                }),
            }
        });
    }
}

/// What was asked for is answered yet.
fn forget_all(table: &mut HashMap<Route, Entry>) {
    table.retain(|_, entry| matches!(entry, Entry::Asked));
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellicle_proto::endpoint::Endpoint;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const NEW_ROUTE: u16 = 24;
    const NEW_NEIGHBOUR: u16 = 28;

    fn world() -> (Links, Known, UnixDatagram, UnixDatagram) {
        let (kernel, ours) = UnixDatagram::pair().expect("a pair");
        (Links::new([0, 0, ours.as_raw_fd()], 0, 64).expect("links"), Known::default(), kernel, ours)
    }

    fn route() -> Route {
        Route { source: Endpoint::v4([10, 0, 0, 1], 0), destination: Endpoint::v4([10, 0, 0, 2], 0), tos: 0 }
    }

    fn hop(mac: Option<[u8; 6]>) -> Hop {
        let link = mac.map(|mac| Link { device: 7, mac, hops: 64 });
        Hop { device: 7, address: [10, 0, 0, 2], link }
    }

    /// In the place of the control thread.
    fn answer(links: &Links, found: Option<Hop>) {
        let questions = std::mem::take(&mut *lock(&links.questions));
        assert_eq!(questions.len(), 1, "it is asked once");
        lock(&links.answers).push((questions[0], found));
        links.answered.store(true, SeqCst);
    }

    fn tell(kernel: &UnixDatagram, kind: u16, body: &[u8]) {
        let mut message = Vec::new();
        message.write_all(&(16 + body.len() as u32).to_ne_bytes()).expect("written");
        message.write_all(&kind.to_ne_bytes()).expect("written");
        message.extend_from_slice(&[0; 10]);
        message.extend_from_slice(body);
        kernel.send(&message).expect("told");
    }

    fn neighbour(device: u8, mac: [u8; 6]) -> Vec<u8> {
        let mut body = vec![2, 0, 0, 0, device, 0, 0, 0, 2, 0, 0, 1, 8, 0, 1, 0, 10, 0, 0, 2, 10, 0, 2, 0];
        body.extend_from_slice(&mac);
        body.extend_from_slice(&[0; 2]);
        body
    }

    fn known() -> (Links, Known, UnixDatagram, UnixDatagram) {
        let (links, mut known, kernel, ours) = world();
        assert_eq!(known.find(&links, &route()), None);
        assert_eq!(known.find(&links, &route()), None);
        answer(&links, Some(hop(Some(MAC))));
        assert_eq!(known.find(&links, &route()), hop(Some(MAC)).link);
        (links, known, kernel, ours)
    }

    #[test]
    fn a_neighbour_that_moves_is_asked_for_anew() {
        let (links, mut known, kernel, _ours) = known();
        // it is still there; another one moves
        tell(&kernel, NEW_NEIGHBOUR, &neighbour(7, MAC));
        tell(&kernel, NEW_NEIGHBOUR, &neighbour(8, [9; 6]));
        assert_eq!(known.find(&links, &route()), hop(Some(MAC)).link);
        tell(&kernel, NEW_NEIGHBOUR, &neighbour(7, [9; 6]));
        assert_eq!(known.find(&links, &route()), None);
        answer(&links, Some(hop(Some([9; 6]))));
        assert_eq!(known.find(&links, &route()), hop(Some([9; 6])).link);
    }

    #[test]
    fn one_that_comes_is_asked_for() {
        let (links, mut known, kernel, _ours) = world();
        known.find(&links, &route());
        answer(&links, Some(hop(None)));
        assert_eq!(known.find(&links, &route()), None);
        assert!(lock(&links.questions).is_empty(), "not by every packet");
        tell(&kernel, NEW_NEIGHBOUR, &neighbour(7, MAC));
        assert_eq!(known.find(&links, &route()), None);
        answer(&links, Some(hop(Some(MAC))));
        assert_eq!(known.find(&links, &route()), hop(Some(MAC)).link);
    }

    #[test]
    fn routes_and_marks_that_change_are_asked_for_anew() {
        let (links, mut known, kernel, _ours) = known();
        tell(&kernel, NEW_ROUTE, &[0; 12]);
        assert_eq!(known.find(&links, &route()), None);
        answer(&links, Some(hop(Some(MAC))));
        assert!(known.find(&links, &route()).is_some());
        links.set_mark(7);
        assert_eq!(known.find(&links, &route()), None);
        answer(&links, None);
        assert_eq!(known.find(&links, &route()), None);
        assert!(lock(&links.questions).is_empty());
    }

    #[test]
    fn an_answer_that_may_have_missed_a_change_does_not_count() {
        let (links, mut known, kernel, _ours) = world();
        known.find(&links, &route());
        answer(&links, Some(hop(Some(MAC))));
        tell(&kernel, NEW_ROUTE, &[0; 12]);
        assert_eq!(known.find(&links, &route()), None);
        answer(&links, Some(hop(Some([9; 6]))));
        assert_eq!(known.find(&links, &route()), hop(Some([9; 6])).link);
    }

    #[test]
    fn without_sockets_nothing_is_asked() {
        let links = Links::new([-1; 3], 0, 64).expect("links");
        assert_eq!(Known::default().find(&links, &route()), None);
        assert!(lock(&links.questions).is_empty());
    }
}
