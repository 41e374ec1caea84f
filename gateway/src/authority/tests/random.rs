//! Random rules, from a number.

use alyx_rules::Action;
use alyx_schema::RuleText;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // So that neighbours have nothing in common: the constant of the steps would only shift them.
        Self((seed + 1).wrapping_mul(0xD134_2543_DE82_EF95).rotate_left(31))
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap_or(0)
    }

    pub(super) fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// About items, whatever is done to them; teams have an `id` only where they are meant.
const LEAVES: [&str; 25] = [
    "auth.id == doc.owner",
    "doc.owner != auth.id",
    "auth.id != null",
    "auth.role == 'admin'",
    "doc.done",
    "doc.rank > 1",
    "doc.rank <= auth.metadata.level",
    "doc.title.startsWith('a')",
    "doc.title in ['a', 'ab', auth.id]",
    "has(doc.owner)",
    "doc.owner == null",
    "doc.meta.kind == 'x'",
    "doc.meta.kind != 'x'",
    "auth.id in doc.meta.list",
    "doc.team.open",
    "doc.team.lead == auth.id",
    "get('teams', doc.team_id).name == 'a'",
    "get('teams', auth.metadata.team).open",
    "exists('members', {'team_id': doc.team_id, 'user_id': auth.id})",
    "exists('members', {'user_id': doc.team.lead})",
    "auth.metadata.teams.exists(t, t == doc.team_id)",
    "auth.id.startsWith('a')",
    "get('teams', doc.title).open",
    "now < timestamp('2000-01-01T00:00:00Z')",
    "now > timestamp('2000-01-01T00:00:00Z')",
];
const OF_INCOMING: [&str; 4] = [
    "data.owner == auth.id",
    "!has(data.owner)",
    "data.rank < 3",
    "data.title != 'b'",
];

fn expression(random: &mut Random, action: Action, depth: usize) -> String {
    match random.below(if depth == 0 { 1 } else { 5 }) {
        0 | 1 => {
            let writes = matches!(action, Action::Create | Action::Update);
            if writes && random.below(3) == 0 {
                random.of(&OF_INCOMING).to_owned()
            } else {
                random.of(&LEAVES).to_owned()
            }
        }
        2 => format!("!({})", expression(random, action, depth - 1)),
        sign => {
            let sign = if sign == 3 { "&&" } else { "||" };
            let left = expression(random, action, depth - 1);
            format!("({left}) {sign} ({})", expression(random, action, depth - 1))
        }
    }
}

/// A rule, or none where everybody may.
pub(super) fn rule(random: &mut Random, action: Action) -> Option<RuleText> {
    (random.below(12) > 0).then(|| RuleText {
        text: expression(random, action, 3).into(),
        path: action.word().to_owned(),
        line: 1,
        column: 1,
    })
}
