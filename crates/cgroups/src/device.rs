//! Device rules as an eBPF program, for version 2.
//!
//! Of the rules that match the last one counts, as with version 1's files; so the program tries them from the last to the
//! first. Without any match access is denied.

use oci::runtime::DeviceRule;
use sys::bpf::Instruction;

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ANY: i32 = MAKE | READ | WRITE;

// Registers: 0 the answer, 1 the context and later scratch, 2 the type, 3 the access, 4 major, 5 minor.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE_IMMEDIATE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5e;
const EXIT: u8 = 0x95;

fn instruction(code: u8, target: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | target, offset, immediate }
}

/// Compiles `rules` to a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
pub fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let tests = tests(rule);
        let catches_all = tests.is_empty();
        // A failed test skips the rest of its rule: the tests after it, the answer and the exit.
        let length = tests.iter().map(Vec::len).sum::<usize>() + 2;
        let mut place = 0;
        for test in tests {
            place += test.len();
            let skip = i16::try_from(length - place).unwrap_or(i16::MAX);
            let last = test.len() - 1;
            let with_jump = test
                .into_iter()
                .enumerate()
                .map(|(index, one)| if index == last { Instruction { offset: skip, ..one } } else { one });
            program.extend(with_jump);
        }
        program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow)));
        program.push(instruction(EXIT, 0, 0, 0, 0));
        if catches_all {
            // The kernel's verifier refuses what can never be reached.
            return program;
        }
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// The tests of a rule; the last instruction of each is the jump taken when it does not match.
fn tests(rule: &DeviceRule) -> Vec<Vec<Instruction>> {
    let mut tests = Vec::new();
    let kind = match rule.kind.as_deref() {
        Some("b") => Some(BLOCK),
        Some("c" | "u") => Some(CHARACTER),
        _ => None,
    };
    tests.extend(kind.map(|kind| vec![instruction(JUMP_NOT_EQUAL, 2, 0, 0, kind)]));
    let access = access(rule.access.as_deref());
    if access != ANY {
        let mut test = vec![instruction(MOVE_REGISTER, 1, 3, 0, 0), instruction(AND, 1, 0, 0, access)];
        // Allowing needs all that was asked for; denying any of it.
        test.push(if rule.allow {
            instruction(JUMP_NOT_EQUAL_REGISTER, 1, 3, 0, 0)
        } else {
            instruction(JUMP_EQUAL, 1, 0, 0, 0)
        });
        tests.push(test);
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        let number = number.and_then(|number| i32::try_from(number).ok()).filter(|number| *number >= 0);
        tests.extend(number.map(|number| vec![instruction(JUMP_NOT_EQUAL, register, 0, 0, number)]));
    }
    tests
}

fn access(letters: Option<&str>) -> i32 {
    match letters {
        None | Some("") => ANY,
        Some(letters) => letters.chars().fold(0, |bits, letter| {
            bits | match letter {
                'm' => MAKE,
                'r' => READ,
                'w' => WRITE,
                _ => 0,
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program of the few instructions used here.
    fn run(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> i32 {
        let memory = [access << 16 | kind, major, minor];
        let mut registers = [0_i32; 16];
        let mut counter = 0_usize;
        loop {
            let now = program[counter];
            counter += 1;
            let (target, source) = (usize::from(now.registers & 15), usize::from(now.registers >> 4));
            let jump = usize::try_from(now.offset).unwrap();
            match now.code {
                LOAD_WORD => registers[target] = memory[jump / 4],
                AND => registers[target] &= now.immediate,
                SHIFT_RIGHT => registers[target] >>= now.immediate,
                MOVE_IMMEDIATE => registers[target] = now.immediate,
                MOVE_REGISTER => registers[target] = registers[source],
                JUMP_NOT_EQUAL if registers[target] != now.immediate => counter += jump,
                JUMP_EQUAL if registers[target] == now.immediate => counter += jump,
                JUMP_NOT_EQUAL_REGISTER if registers[target] != registers[source] => counter += jump,
                JUMP_NOT_EQUAL | JUMP_EQUAL | JUMP_NOT_EQUAL_REGISTER => {}
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
        DeviceRule { allow, kind: Some(kind.into()), major, minor, access: Some(access.into()) }
    }

    #[test]
    fn the_last_match_counts() {
        let program = program(&[
            rule(false, "a", None, None, "rwm"),
            rule(true, "c", None, None, "m"),
            rule(true, "c", Some(1), Some(3), "rwm"),
            rule(true, "c", Some(136), None, "rw"),
            rule(false, "c", Some(10), Some(229), "rwm"),
            rule(true, "b", Some(8), None, "r"),
            rule(false, "b", Some(8), Some(1), "r"),
        ]);
        let check = |kind, access, major, minor, expect| {
            assert_eq!(run(&program, kind, access, major, minor), expect, "{kind} {access} {major}:{minor}");
        };
        check(CHARACTER, ANY, 1, 3, 1);
        check(CHARACTER, READ | WRITE, 136, 77, 1);
        check(CHARACTER, ANY, 136, 77, 0);
        check(CHARACTER, MAKE, 10, 5, 1);
        check(CHARACTER, MAKE, 10, 229, 0);
        check(CHARACTER, READ, 10, 5, 0);
        check(BLOCK, READ, 8, 0, 1);
        check(BLOCK, READ | WRITE, 8, 0, 0);
        check(BLOCK, READ, 8, 1, 0);
        check(BLOCK, MAKE, 1, 3, 0);
    }

    #[test]
    fn what_allows_all_ends_the_program() {
        let all = program(&[rule(false, "b", None, None, "w"), rule(true, "a", None, None, "rwm")]);
        assert_eq!(all.len(), 8);
        assert_eq!(run(&all, BLOCK, ANY, 8, 0), 1);
        assert_eq!(run(&program(&[]), CHARACTER, READ, 1, 3), 0);
    }

    #[test]
    #[ignore = "root: loads a program into the kernel"]
    fn the_kernel_accepts_the_program() {
        let rules = [
            rule(false, "a", None, None, "rwm"),
            rule(true, "c", None, None, "m"),
            rule(false, "b", Some(8), Some(1), "r"),
        ];
        sys::bpf::load_device_program(&program(&rules)).unwrap();
    }
}
