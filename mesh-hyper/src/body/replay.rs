use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// Frames of a body that were sent and may have to be sent again.
pub(super) enum Replay {
    /// Nothing is kept.
    Off,
    /// What was sent so far is kept.
    On(Kept),
    /// Frames are gone: too many, an error, or a commitment to the attempt under way.
    Spent,
}

/// Sent frames, in order.
pub(super) struct Kept {
    limit: usize,
    cost: usize,
    /// Beside the others: the body of a unary call is one frame, which then costs no allocation.
    first: Option<Bytes>,
    more: Vec<Bytes>,
    trailers: Option<Box<HeaderMap>>,
    /// How many frames, trailers included, the attempt under way has had.
    given: usize,
    /// The attempt under way is the last: give what is left, keep nothing.
    committed: bool,
}

/// What a frame costs at least, so that many small ones are bounded too.
const FRAME_COST: usize = 64;

// === impl Replay ===

impl Replay {
    pub(super) fn on(limit: usize) -> Self {
        Replay::On(Kept {
            limit,
            cost: 0,
            first: None,
            more: Vec::new(),
            trailers: None,
            given: 0,
            committed: false,
        })
    }

    /// The next kept frame that the attempt under way has not had.
    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        let Replay::On(kept) = self else {
            return None;
        };
        let frame = kept.frame(kept.given)?;
        kept.given += 1;
        if kept.committed && kept.given == kept.len() {
            *self = Replay::Spent;
        }
        Some(frame)
    }

    /// Remembers a frame that the body has just yielded.
    pub(super) fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Replay::On(kept) = self
            && !kept.keep(frame)
        {
            *self = Replay::Spent;
        }
    }

    /// Starts over for another attempt; false if it cannot.
    pub(super) fn rewind(&mut self) -> bool {
        match self {
            Replay::On(kept) if !kept.committed => {
                kept.given = 0;
                true
            }
            _ => false,
        }
    }

    /// Releases all that the attempt under way has had already, the rest once it has.
    pub(super) fn commit(&mut self) {
        match self {
            Replay::On(kept) if kept.given < kept.len() => {
                kept.committed = true;
            }
            Replay::On(_) => *self = Replay::Spent,
            Replay::Off | Replay::Spent => {}
        }
    }

    /// Whether the attempt under way has had all that is kept.
    pub(super) fn is_drained(&self) -> bool {
        match self {
            Replay::On(kept) => kept.given == kept.len(),
            Replay::Off | Replay::Spent => true,
        }
    }

    /// Bytes of data that the attempt under way has not had.
    pub(super) fn remaining(&self) -> u64 {
        let Replay::On(kept) = self else {
            return 0;
        };
        let frames = kept.first.iter().chain(&kept.more);
        frames.skip(kept.given).map(|data| data.len() as u64).sum()
    }
}

// === impl Kept ===

impl Kept {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len() + usize::from(self.trailers.is_some())
    }

    fn frame(&self, index: usize) -> Option<Frame<Bytes>> {
        let data = match index.checked_sub(1) {
            None => self.first.as_ref(),
            Some(index) => self.more.get(index),
        };
        match data {
            Some(data) => Some(Frame::data(data.clone())),
            None if index + 1 == self.len() => self
                .trailers
                .as_ref()
                .map(|trailers| Frame::trailers(HeaderMap::clone(trailers))),
            None => None,
        }
    }

    /// False if the frame does not fit.
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        if self.committed {
            return false;
        }
        let cost = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => data.len(),
            (None, Some(trailers)) => trailers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + 32)
                .sum(),
            // HTTP/2 has no other frame that a body could yield: hyper skips it too.
            (None, None) => return true,
        };
        self.cost = self.cost.saturating_add(cost.max(FRAME_COST));
        if self.cost > self.limit {
            return false;
        }
        if let Some(data) = frame.data_ref() {
            match self.first {
                None => self.first = Some(data.clone()),
                Some(_) => self.more.push(data.clone()),
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(Box::new(trailers.clone()));
        }
        self.given = self.len();
        true
    }
}
