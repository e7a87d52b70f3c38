//! Answers of name servers, kept as long as they say.
//!
//! A question is the same if it is byte for byte, but for its id; only answers with records are kept. What is given out
//! lives as much shorter as it has been here (RFC 1035, 7.4).

use super::message::{self, u16_at};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many answers are kept, and how large one may be.
const ANSWERS: usize = 256;
const LARGEST: usize = 4096;
/// The longest that one is kept, whatever it says.
const LONGEST: u32 = 3600;

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Cache(HashMap<Vec<u8>, Kept>);

#[derive(Debug)]
struct Kept {
    answer: Vec<u8>,
    /// Where the times to live stand.
    lives: Vec<usize>,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// Keeps what `question` was answered, if it may be kept.
    pub(super) fn put(&mut self, question: &[u8], answer: &[u8], now: Instant) {
        let Some((lives, life)) = lives(answer).filter(|(_, life)| *life > 0) else { return };
        if answer.len() > LARGEST || question.len() > LARGEST {
            return;
        }
        if self.0.len() >= ANSWERS {
            self.0.retain(|_, kept| kept.until > now);
        }
        if self.0.len() >= ANSWERS {
            let first = self.0.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| key.clone());
            first.and_then(|key| self.0.remove(&key));
        }
        let until = now + Duration::from_secs(u64::from(life.min(LONGEST)));
        self.0.insert(key(question), Kept { answer: answer.to_vec(), lives, since: now, until });
    }

    /// Returns the answer to a question, with another's id.
    pub(super) fn get(&self, question: &[u8], now: Instant) -> Option<Vec<u8>> {
        let kept = self.0.get(&key(question)).filter(|kept| kept.until > now)?;
        let age = u32::try_from(now.saturating_duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let mut answer = kept.answer.clone();
        for at in &kept.lives {
            if let Some(place) = answer.get_mut(*at..).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
                *place = u32::from_be_bytes(*place).saturating_sub(age).to_be_bytes();
            }
        }
        Some(answer)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn key(question: &[u8]) -> Vec<u8> {
    question.get(2..).unwrap_or_default().to_vec()
}

/// Returns where the times to live of an answer's records stand, and the shortest; `None` for what is not to be kept: errors,
/// answers without records, those that are cut off, and what cannot be read.
pub(super) fn lives(answer: &[u8]) -> Option<(Vec<usize>, u32)> {
    const TRUNCATED: u8 = 0x02;
    let counts = [4, 6, 8, 10].map(|at| u16_at(answer, at));
    let [Some(questions), Some(answers), Some(authorities), Some(additional)] = counts else { return None };
    let plain = message::code(answer) == Some(message::NO_ERROR) && answer.get(2)? & TRUNCATED == 0;
    if !plain || questions != 1 || answers == 0 {
        return None;
    }
    let mut at = after_name(answer, 12)? + 4;
    let (mut places, mut shortest) = (Vec::new(), u32::MAX);
    for _ in 0..u32::from(answers) + u32::from(authorities) + u32::from(additional) {
        at = after_name(answer, at)?;
        let (kind, length) = (u16_at(answer, at)?, u16_at(answer, at + 8)?);
        if kind != message::OPT {
            let life = answer.get(at + 4..)?.first_chunk::<4>()?;
            shortest = shortest.min(u32::from_be_bytes(*life));
            places.push(at + 4);
        }
        at += 10 + usize::from(length);
        answer.get(..at)?;
    }
    Some((places, shortest))
}

/// Returns where a name ends that may lead elsewhere (RFC 1035, 4.1.4); where to is not looked at.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192..=255 => return message.get(at + 1).map(|_| at + 2),
            64..=191 => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::message::{A, parse, question};

    #[test]
    fn answers_grow_old() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let asked = question([1, 2], "web.example", A);
        let answer = parse(&asked).unwrap().addresses(&["192.0.2.1".parse().unwrap()]);
        cache.put(&asked, &answer, now);
        let life = |answer: &[u8]| {
            let (places, life) = lives(answer).unwrap();
            assert_eq!(places.len(), 1);
            life
        };
        let again = question([7, 8], "web.example", A);
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(life(&cache.get(&again, now).unwrap()), 600);
        assert_eq!(life(&cache.get(&again, later(599)).unwrap()), 1);
        assert_eq!(cache.get(&again, later(600)), None);
        assert_eq!(cache.get(&question([1, 2], "web.example", 28), now), None);
        cache.clear();
        assert_eq!(cache.get(&again, now), None);
    }

    #[test]
    fn what_is_not_kept() {
        let query = parse(&question([1, 2], "web.example", A)).unwrap();
        let good = query.addresses(&["192.0.2.1".parse().unwrap()]);
        assert_eq!(lives(&query.empty(0)), None, "no records");
        assert_eq!(lives(&query.empty(3)), None, "an error");
        for end in 0..good.len() {
            assert_eq!(lives(&good[..end]), None, "cut off at {end}");
        }
        let mut cut = good.clone();
        cut[2] |= 2;
        assert_eq!(lives(&cut), None, "to be asked for over TCP");
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..=ANSWERS {
            let asked = question([1, 2], &format!("host{number}"), A);
            let answer = parse(&asked).unwrap().addresses(&["192.0.2.1".parse().unwrap()]);
            cache.put(&asked, &answer, now + Duration::from_millis(u64::try_from(number).unwrap()));
        }
        assert_eq!(cache.0.len(), ANSWERS);
        assert_eq!(cache.get(&question([1, 2], "host0", A), now), None);
    }
}
