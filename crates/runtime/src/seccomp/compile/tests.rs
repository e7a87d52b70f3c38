//! The compiler against the meaning of the rules: every program is run by a small BPF machine.

use super::*;
use crate::default_seccomp;
use oci::runtime::Syscall;

/// What the kernel shows a filter.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    audit: u32,
    arguments: [u64; 6],
}

/// Runs a program as the kernel would; also returns how many instructions that took.
fn run(program: &[Instruction], call: Call) -> (u32, usize) {
    let mut words = vec![call.number, call.audit, 0, 0];
    words.extend(call.arguments.iter().flat_map(|value| [half(*value), half(*value >> 32)]));
    let (mut accumulator, mut counter, mut steps) = (0_u32, 0_usize, 0_usize);
    loop {
        let now = program[counter];
        counter += 1;
        steps += 1;
        let choice = |holds: bool| usize::from(if holds { now.jump_true } else { now.jump_false });
        match now.code {
            LOAD => accumulator = words[usize::try_from(now.k).unwrap() / 4],
            AND => accumulator &= now.k,
            JUMP => counter += usize::try_from(now.k).unwrap(),
            JUMP_EQUAL => counter += choice(accumulator == now.k),
            JUMP_GREATER => counter += choice(accumulator > now.k),
            JUMP_GREATER_OR_EQUAL => counter += choice(accumulator >= now.k),
            RETURN => return (now.k, steps),
            other => panic!("{other:#x}"),
        }
    }
}

fn holds(argument: &Argument, arguments: &[u64; 6]) -> bool {
    let given = arguments[usize::try_from(argument.index).unwrap()];
    match argument.op {
        Operator::Equal => given == argument.value,
        Operator::NotEqual => given != argument.value,
        Operator::Less => given < argument.value,
        Operator::LessOrEqual => given <= argument.value,
        Operator::Greater => given > argument.value,
        Operator::GreaterOrEqual => given >= argument.value,
        Operator::MaskedEqual => given & argument.value == argument.value_two,
    }
}

/// What a profile means, straight from its rules.
fn meaning(profile: &Seccomp, entry: Entry, number: u32, arguments: &[u64; 6]) -> u32 {
    let numbered = |name: &String| {
        let (_, numbers) = CALLS.iter().find(|(known, _)| known == name)?;
        u32::try_from(numbers[entry.column]).ok().map(|number| number | entry.bit)
    };
    let mut unconditional = None;
    let mut newest = None;
    let mut conditional = None;
    for rule in &profile.syscalls {
        newest = newest.max(rule.names.iter().filter_map(numbered).max());
        if !rule.names.iter().any(|name| numbered(name) == Some(number)) {
            continue;
        }
        let repeated = (0..6).any(|index| rule.args.iter().filter(|one| one.index == index).count() > 1);
        let answer = answer(rule.action, rule.errno_ret);
        if rule.args.is_empty() {
            unconditional = unconditional.or(Some(answer));
        } else if if repeated {
            rule.args.iter().any(|one| holds(one, arguments))
        } else {
            rule.args.iter().all(|one| holds(one, arguments))
        } {
            conditional = conditional.or(Some(answer));
        }
    }
    let permissive = matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace);
    let is_new = newest.is_some_and(|newest| number > newest) && !permissive;
    let default = answer(profile.default_action, profile.default_errno_ret);
    conditional.or(unconditional).unwrap_or(if is_new { ERRNO | ENOSYS } else { default })
}

fn check(profile: &Seccomp, program: &[Instruction], entry: Entry, number: u32, arguments: [u64; 6]) {
    let call = Call { number: number | entry.bit, audit: entry.audit, arguments };
    let (got, _) = run(program, call);
    let expect = meaning(profile, entry, call.number, &arguments);
    assert_eq!(got, expect, "{call:x?} {profile:?}");
}

/// A small source of numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap() % limit
    }

    /// A value near the edges where comparisons of halves go wrong.
    fn value(&mut self) -> u64 {
        const EDGES: [u64; 8] = [0, 1, 2, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX];
        EDGES[self.below(EDGES.len())]
    }

    fn profile(&mut self) -> Seccomp {
        const ACTIONS: [Action; 5] =
            [Action::Allow, Action::Errno, Action::Trap, Action::Log, Action::KillProcess];
        const OPERATORS: [Operator; 7] = [
            Operator::Equal,
            Operator::NotEqual,
            Operator::Less,
            Operator::LessOrEqual,
            Operator::Greater,
            Operator::GreaterOrEqual,
            Operator::MaskedEqual,
        ];
        let mut syscalls = Vec::new();
        for _ in 0..self.below(25) {
            let names = (0..=self.below(8)).map(|_| CALLS[self.below(CALLS.len())].0.to_owned()).collect();
            let argument = |random: &mut Self| Argument {
                index: u32::try_from(random.below(6)).unwrap(),
                value: random.value(),
                value_two: random.value(),
                op: OPERATORS[random.below(OPERATORS.len())],
            };
            let args = (0..self.below(4)).map(|_| argument(self)).collect();
            let errno_ret = [None, Some(7)][self.below(2)];
            syscalls.push(Syscall { names, action: ACTIONS[self.below(ACTIONS.len())], errno_ret, args });
        }
        Seccomp {
            default_action: ACTIONS[self.below(ACTIONS.len())],
            architectures: vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()],
            syscalls,
            ..Seccomp::default()
        }
    }
}

#[test]
fn programs_mean_what_the_rules_say() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..16 {
        let profile = random.profile();
        let program = compile(&profile).unwrap();
        for entry in [NATIVE, X86, X32] {
            for _ in 0..150 {
                let number = u32::try_from(random.below(600)).unwrap();
                let arguments = std::array::from_fn(|_| random.value());
                check(&profile, &program, entry, number, arguments);
            }
        }
    }
}

#[test]
fn the_default_profile_is_short_on_every_path() {
    let default = default_seccomp(&[]);
    let program = compile(&default).unwrap();
    let mut random = Random(99);
    let mut longest = 0;
    for entry in [NATIVE, X86, X32] {
        for number in 0..600 {
            if random.below(4) == 0 {
                check(&default, &program, entry, number, std::array::from_fn(|_| random.value()));
            }
            let call = Call { number: number | entry.bit, audit: entry.audit, arguments: [0; 6] };
            longest = longest.max(run(&program, call).1);
        }
    }
    assert!(longest <= 36, "{longest}");
    assert!(program.len() < 800, "{}", program.len());
}

#[test]
fn docker_s_answers() {
    let number = |name: &str| {
        let place = CALLS.binary_search_by(|(known, _)| (*known).cmp(name)).unwrap();
        u32::try_from(CALLS[place].1[NATIVE.column]).unwrap()
    };
    let plain = compile(&default_seccomp(&[])).unwrap();
    let admin = compile(&default_seccomp(&["CAP_SYS_ADMIN".into()])).unwrap();
    let ask = |program: &[Instruction], name: &str, first: u64| {
        run(program, Call { number: number(name), audit: NATIVE.audit, arguments: [first, 0, 0, 0, 0, 0] }).0
    };
    for (name, first, without, with) in [
        ("read", 0, ALLOW, ALLOW),
        ("mount", 0, ERRNO | 1, ALLOW),
        ("clone", 0x11, ALLOW, ALLOW),
        ("clone", 0x1000_0000, ERRNO | 1, ALLOW),
        ("clone3", 0, ERRNO | 38, ALLOW),
        ("socket", 2, ALLOW, ALLOW),
        ("socket", 38, ERRNO | 1, ERRNO | 1),
        ("socket", 39, ALLOW, ALLOW),
        ("socket", 40, ERRNO | 1, ERRNO | 1),
        ("socket", 41, ALLOW, ALLOW),
        ("personality", 0xffff_ffff, ALLOW, ALLOW),
        ("personality", 5, ERRNO | 1, ERRNO | 1),
        ("keyctl", 0, ERRNO | 1, ERRNO | 1),
        ("kexec_load", 0, ERRNO | 1, ERRNO | 1),
    ] {
        assert_eq!((ask(&plain, name, first), ask(&admin, name, first)), (without, with), "{name} {first}");
    }
    let answer = |call: Call| run(&plain, call).0;
    assert_eq!(answer(Call { number: 5000, audit: NATIVE.audit, arguments: [0; 6] }), ERRNO | ENOSYS);
    assert_eq!(answer(Call { number: 0, audit: 0x1234, arguments: [0; 6] }), KILL_THREAD);
}

#[test]
fn x32_is_refused_unless_it_is_named() {
    let profile =
        Seccomp { default_action: Action::Allow, architectures: Vec::new(), ..default_seccomp(&[]) };
    let program = compile(&profile).unwrap();
    let call = |number| Call { number, audit: X86_64.audit, arguments: [0; 6] };
    assert_eq!(run(&program, call(X32_BIT | 1)).0, KILL_THREAD);
    assert_eq!(run(&program, call(1)).0, ALLOW);
}

#[test]
fn the_table_can_be_searched() {
    assert!(CALLS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let wrong = Syscall {
        names: vec!["read".into()],
        args: vec![Argument { index: 6, ..Argument::default() }],
        ..Syscall::default()
    };
    assert!(compile(&Seccomp { syscalls: vec![wrong], ..Seccomp::default() }).is_err());
}
