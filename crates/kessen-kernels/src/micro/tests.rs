use super::*;

/// The addresses that an ask asks for, in turn.
fn addresses(asked: impl Iterator<Item = Soon>) -> Vec<*const f32> {
    asked.flat_map(|soon| (0..soon.lines).map(move |k| soon.line_at(k))).collect()
}

#[test]
fn lines_spread_over_tiles_are_the_same_lines() {
    let memory = [0.0; 4096];
    let asked = [(0, 16, 112), (7, 40, 1), (100, 0, 0), (50, 24, 19)]
        .map(|(at, step, lines)| Soon::strided(memory.as_ptr().wrapping_add(at), step, lines));
    let all = addresses(asked.into_iter());
    for (tiles, longest) in [(0, 112), (1, 112), (7, 112), (8, 56), (77, 6), (5000, 1)] {
        let spread: Vec<Soon> = Soon::spread(asked.into_iter(), tiles).collect();
        assert_eq!(addresses(spread.iter().copied()), all);
        assert_eq!(spread.iter().map(|soon| soon.lines).max(), Some(longest), "{tiles} tiles");
        assert!(spread.len() <= tiles.max(asked.len()), "{tiles} tiles");
    }
    assert_eq!(Soon::spread(std::iter::empty(), 5).count(), 0);
}
