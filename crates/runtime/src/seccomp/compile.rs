//! Profiles to classic BPF: for each architecture a binary search over ranges of call numbers.
//!
//! The kernel runs a new filter once for every call number to learn which are always allowed, so what counts is the
//! length of the longest path, not the size. Neighbours with the same answer are one range; the search halves the ranges
//! (`JGE`); a call whose answer depends on arguments gets its tests in its leaf.
//!
//! Of several rules for one call those with conditions are tried in order, then the one without. Conditions on the same
//! argument within a rule are alternatives (as libseccomp's users have it), on different ones all must hold. A call newer
//! than every one that the profile names fails with `ENOSYS`, so that programs fall back to older ones (runc's rule).
//!
//! seccomp(2); Documentation/userspace-api/seccomp_filter.rst.

use super::table::CALLS;
use crate::Error;
use oci::runtime::{Action, Argument, Operator, Seccomp};
use std::collections::BTreeMap;
use sys::seccomp::Instruction;

// struct seccomp_data: nr at 0, arch at 4, instruction pointer at 8, six arguments of eight bytes at 16.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
const USER_NOTIFY: u32 = 0x7fc0_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// The bit that x32 calls have in their number.
const X32_BIT: u32 = 0x4000_0000;
/// The longest program the kernel takes (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;

/// One way to enter the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// `AUDIT_ARCH_*`.
    audit: u32,
    /// Column of the table.
    column: usize,
    /// Added to each number.
    bit: u32,
    /// Whether arguments have 64 bits.
    wide: bool,
}

const X86_64: Entry = Entry { audit: 0xc000_003e, column: 0, bit: 0, wide: true };
const X86: Entry = Entry { audit: 0x4000_0003, column: 1, bit: 0, wide: false };
// Pointers have 32 bits there, registers 64.
const X32: Entry = Entry { audit: 0xc000_003e, column: 2, bit: X32_BIT, wide: true };
const AARCH64: Entry = Entry { audit: 0xc000_00b7, column: 3, bit: 0, wide: true };
const ARM: Entry = Entry { audit: 0x4000_0028, column: 4, bit: 0, wide: false };

fn entry(name: &str) -> Option<Entry> {
    Some(match name {
        "SCMP_ARCH_X86_64" => X86_64,
        "SCMP_ARCH_X86" => X86,
        "SCMP_ARCH_X32" => X32,
        "SCMP_ARCH_AARCH64" => AARCH64,
        "SCMP_ARCH_ARM" => ARM,
        _ => return None,
    })
}

#[cfg(target_arch = "x86_64")]
const NATIVE: Entry = X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: Entry = AARCH64;

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    index: u32,
    operator: Operator,
    value: u64,
    datum: u64,
}

/// All conditions hold: this answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    conditions: Vec<Condition>,
    answer: u32,
}

/// What is done about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leaf {
    rules: Vec<Rule>,
    otherwise: u32,
}

/// Compiles a profile.
pub(super) fn compile(profile: &Seccomp) -> Result<Vec<Instruction>, Error> {
    let mut entries = vec![NATIVE];
    for name in &profile.architectures {
        // Of architectures that this processor does not run nothing can come.
        if let Some(entry) = entry(name).filter(|entry| !entries.contains(entry)) {
            entries.push(entry);
        }
    }
    let mut program = vec![instruction(LOAD, ARCHITECTURE)];
    let mut audits: Vec<u32> = entries.iter().map(|entry| entry.audit).collect();
    audits.sort_unstable();
    audits.dedup();
    // The native one first: it is what is asked for nearly always.
    audits.sort_by_key(|audit| *audit != NATIVE.audit);
    for audit in audits {
        let here: Vec<Entry> = entries.iter().filter(|entry| entry.audit == audit).copied().collect();
        let ranges = ranges(profile, &here)?;
        let mut body = vec![instruction(LOAD, NUMBER)];
        search(&ranges, &mut body)?;
        // Past the body if it is another architecture.
        program.push(branch(JUMP_EQUAL, audit, 1, 0));
        program.push(instruction(JUMP, length(&body)?));
        program.append(&mut body);
    }
    program.push(instruction(RETURN, KILL_THREAD));
    if program.len() > LONGEST {
        return Err(Error::Spec(format!("the seccomp profile is too long: {} instructions", program.len())));
    }
    Ok(program)
}

fn instruction(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn branch(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

fn length(program: &[Instruction]) -> Result<u32, Error> {
    u32::try_from(program.len()).map_err(|_range| Error::spec("the seccomp profile is too long"))
}

/// Returns the first numbers of ranges with the same answer, in order, from 0 on.
fn ranges(profile: &Seccomp, entries: &[Entry]) -> Result<Vec<(u32, Leaf)>, Error> {
    let default = answer(profile.default_action, profile.default_errno_ret);
    let permissive = matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace);
    let newer = if permissive { default } else { ERRNO | ENOSYS };
    let mut ranges: Vec<(u32, Leaf)> = Vec::new();
    let mut push = |start: u32, leaf: Leaf| {
        if ranges.last().is_none_or(|(_, last)| *last != leaf) {
            ranges.push((start, leaf));
        }
    };
    let plain = |answer: u32| Leaf { rules: Vec::new(), otherwise: answer };
    let mut sorted = entries.to_vec();
    sorted.sort_by_key(|entry| entry.bit);
    for entry in &sorted {
        let (calls, named) = calls(profile, *entry, default)?;
        let mut next = entry.bit;
        for (number, leaf) in calls {
            if number > next {
                push(next, plain(default));
            }
            push(number, leaf);
            next = number + 1;
        }
        let Some(newest) = named else {
            // A profile without rules says nothing about what is new.
            push(next, plain(default));
            continue;
        };
        if newest >= next {
            push(next, plain(default));
        }
        push(newest + 1, plain(newer));
    }
    // x32 numbers reach the kernel through the same gate; who did not ask for them does not make them.
    if sorted.contains(&X86_64) && !sorted.contains(&X32) {
        push(X32_BIT, plain(KILL_THREAD));
    }
    Ok(ranges)
}

/// The calls that are not answered by default, and the highest number that the profile names.
fn calls(profile: &Seccomp, entry: Entry, default: u32) -> Result<(BTreeMap<u32, Leaf>, Option<u32>), Error> {
    let mut calls: BTreeMap<u32, Leaf> = BTreeMap::new();
    let mut settled: BTreeMap<u32, u32> = BTreeMap::new();
    let mut newest = None;
    for syscall in &profile.syscalls {
        let answer = answer(syscall.action, syscall.errno_ret);
        let alternatives = alternatives(&syscall.args)?;
        for name in &syscall.names {
            let Ok(place) = CALLS.binary_search_by(|(known, _)| (*known).cmp(name)) else { continue };
            let number = CALLS.get(place).and_then(|(_, numbers)| numbers.get(entry.column));
            let Some(number) = number.and_then(|number| u32::try_from(*number).ok()) else { continue };
            let number = number | entry.bit;
            newest = newest.max(Some(number));
            if alternatives.is_empty() {
                settled.entry(number).or_insert(answer);
                continue;
            }
            let leaf = calls.entry(number).or_insert_with(|| Leaf { rules: Vec::new(), otherwise: default });
            leaf.rules.extend(
                alternatives.iter().map(|conditions| Rule { conditions: conditions.clone(), answer }),
            );
        }
    }
    for (number, answer) in settled {
        let leaf = calls.entry(number).or_insert_with(|| Leaf { rules: Vec::new(), otherwise: default });
        leaf.otherwise = answer;
    }
    for leaf in calls.values_mut() {
        // Tests at the end that change nothing are not made.
        while leaf.rules.last().is_some_and(|rule| rule.answer == leaf.otherwise) {
            leaf.rules.pop();
        }
    }
    Ok((calls, newest))
}

/// Splits conditions into alternatives: one if every argument is named once, else one for each condition.
fn alternatives(arguments: &[Argument]) -> Result<Vec<Vec<Condition>>, Error> {
    let mut conditions = Vec::new();
    let mut seen = 0_u8;
    let mut repeated = false;
    for argument in arguments {
        if argument.index > 5 {
            return Err(Error::Spec(format!("seccomp argument index {} is above 5", argument.index)));
        }
        repeated |= seen >> argument.index & 1 == 1;
        seen |= 1 << argument.index;
        conditions.push(Condition {
            index: argument.index,
            operator: argument.op,
            value: argument.value,
            datum: argument.value_two,
        });
    }
    Ok(match (conditions.is_empty(), repeated) {
        (true, _) => Vec::new(),
        (false, false) => vec![conditions],
        (false, true) => conditions.into_iter().map(|condition| vec![condition]).collect(),
    })
}

fn answer(action: Action, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(EPERM) & 0xffff;
    match action {
        Action::Kill | Action::KillThread => KILL_THREAD,
        Action::KillProcess => KILL_PROCESS,
        Action::Trap => TRAP,
        Action::Errno => ERRNO | data,
        Action::Trace => TRACE | data,
        Action::Allow => ALLOW,
        Action::Log => LOG,
        Action::Notify => USER_NOTIFY,
    }
}

/// Emits the binary search over `ranges`, with the call's number loaded.
fn search(ranges: &[(u32, Leaf)], program: &mut Vec<Instruction>) -> Result<(), Error> {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let Some((middle, first)) = right.first() else { return Ok(()) };
    if left.is_empty() {
        return leaf(first, program);
    }
    let mut lower = Vec::new();
    search(left, &mut lower)?;
    match u8::try_from(lower.len()) {
        Ok(skip) => program.push(branch(JUMP_GREATER_OR_EQUAL, *middle, skip, 0)),
        Err(_) => {
            program.push(branch(JUMP_GREATER_OR_EQUAL, *middle, 0, 1));
            program.push(instruction(JUMP, length(&lower)?));
        }
    }
    program.append(&mut lower);
    search(right, program)
}

fn leaf(leaf: &Leaf, program: &mut Vec<Instruction>) -> Result<(), Error> {
    for rule in &leaf.rules {
        let mut code = Vec::new();
        for condition in &rule.conditions {
            test(*condition, &mut code);
        }
        code.push(Emitted::Plain(instruction(RETURN, rule.answer)));
        resolve(&code, program)?;
    }
    program.push(instruction(RETURN, leaf.otherwise));
    Ok(())
}

/// Where a test goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The next instruction.
    Next,
    /// The end of this test: the condition holds.
    Holds,
    /// The end of the rule: it does not.
    Fails,
}

#[derive(Debug, Clone, Copy)]
enum Emitted {
    Plain(Instruction),
    Branch(u16, u32, Target, Target),
    /// The end of a test.
    End,
}

/// Emits one condition on a 64-bit argument, in two halves of 32 bits: the high one decides first.
///
/// On 32-bit architectures the kernel fills the high half with zeros, so the same code is right for values that fit.
fn test(condition: Condition, code: &mut Vec<Emitted>) {
    use Target::{Fails, Holds, Next};
    let low = ARGUMENTS + 8 * condition.index;
    let halves = |value: u64| (half(value >> 32), half(value));
    let (high_value, low_value) = halves(condition.value);
    let load = |offset| Emitted::Plain(instruction(LOAD, offset));
    let both = |high: Vec<Emitted>, last: Emitted| {
        let mut all = vec![load(low + 4)];
        all.extend(high);
        all.push(load(low));
        all.push(last);
        all
    };
    let equal = |value, yes, no| Emitted::Branch(JUMP_EQUAL, value, yes, no);
    let greater = |value, yes, no| Emitted::Branch(JUMP_GREATER, value, yes, no);
    let at_least = |value, yes, no| Emitted::Branch(JUMP_GREATER_OR_EQUAL, value, yes, no);
    let emitted = match condition.operator {
        Operator::Equal => both(vec![equal(high_value, Next, Fails)], equal(low_value, Holds, Fails)),
        Operator::NotEqual => both(vec![equal(high_value, Next, Holds)], equal(low_value, Fails, Holds)),
        Operator::Greater => both(
            vec![greater(high_value, Holds, Next), equal(high_value, Next, Fails)],
            greater(low_value, Holds, Fails),
        ),
        Operator::GreaterOrEqual => both(
            vec![greater(high_value, Holds, Next), equal(high_value, Next, Fails)],
            at_least(low_value, Holds, Fails),
        ),
        Operator::Less => both(
            vec![greater(high_value, Fails, Next), equal(high_value, Next, Holds)],
            at_least(low_value, Fails, Holds),
        ),
        Operator::LessOrEqual => both(
            vec![greater(high_value, Fails, Next), equal(high_value, Next, Holds)],
            greater(low_value, Fails, Holds),
        ),
        Operator::MaskedEqual => {
            let (high_datum, low_datum) = halves(condition.datum);
            let mask = |value| Emitted::Plain(instruction(AND, value));
            vec![
                load(low + 4),
                mask(high_value),
                equal(high_datum, Next, Fails),
                load(low),
                mask(low_value),
                equal(low_datum, Holds, Fails),
            ]
        }
    };
    code.extend(emitted);
    code.push(Emitted::End);
}

fn half(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

/// Puts numbers to the targets of a rule's code.
fn resolve(code: &[Emitted], program: &mut Vec<Instruction>) -> Result<(), Error> {
    let places = |code: &[Emitted]| code.iter().filter(|one| !matches!(one, Emitted::End)).count();
    for (index, emitted) in code.iter().enumerate() {
        let rest = code.get(index + 1..).unwrap_or_default();
        let offset = |target: Target| {
            let skipped = match target {
                Target::Next => 0,
                Target::Fails => places(rest),
                Target::Holds => {
                    rest.iter().position(|one| matches!(one, Emitted::End)).unwrap_or(rest.len())
                }
            };
            u8::try_from(skipped).map_err(|_range| Error::spec("a seccomp rule has too many conditions"))
        };
        match emitted {
            Emitted::Plain(instruction) => program.push(*instruction),
            Emitted::Branch(operation, value, yes, no) => {
                program.push(branch(*operation, *value, offset(*yes)?, offset(*no)?));
            }
            Emitted::End => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
