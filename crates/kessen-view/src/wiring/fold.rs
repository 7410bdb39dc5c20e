//! Several parts as one: stages by their path, equal blocks in a row.

use super::parts::Part;
use crate::diagram::BlockKind;
use std::collections::HashMap;

/// A block that stands for several equal ones in a row.
#[derive(Debug)]
pub(super) struct Repeat {
    pub count: usize,
    pub parts: Vec<usize>,
}

/// Makes one part of all that agree in the first `depth` steps of their paths, where nothing outside stands between
/// them.
pub(super) fn collapse(mut parts: Vec<Part>, depth: usize) -> Vec<Part> {
    let mut names: Vec<String> = stages(&parts, depth).into_iter().flatten().collect();
    names.dedup();
    for name in names {
        let stages = stages(&parts, depth);
        let members: Vec<usize> = (0..parts.len()).filter(|&k| stages[k].as_ref() == Some(&name)).collect();
        // One after the other: two stages that are closed each may be entangled with one another.
        if members.len() > 1 && closed(&parts, &members) {
            parts = contract(parts, &members, name);
        }
    }
    parts
}

/// The stage that each part belongs to: the first steps of its path. A part that nobody named belongs to its block's
/// stage, or to the one that it stands in: behind its parts only, or beside them on the way from the same part.
fn stages(parts: &[Part], depth: usize) -> Vec<Option<String>> {
    let cut = |path: &str| path.split('.').take(depth).collect::<Vec<_>>().join(".");
    let own = |part: &Part| match &part.block {
        Some(block) if !part.named => Some(cut(block)),
        _ if part.path.split('.').count() > depth => Some(cut(&part.path)),
        _ => None,
    };
    let mut stages: Vec<Option<String>> = parts.iter().map(own).collect();
    let agree = |stages: &[Option<String>], of: &[usize]| {
        let first = of.first().and_then(|&k| stages[k].clone())?;
        of.iter().all(|&k| stages[k].as_ref() == Some(&first)).then_some(first)
    };
    for (k, part) in parts.iter().enumerate() {
        let behind = matches!(part.kind, BlockKind::Join | BlockKind::Activation | BlockKind::Norm);
        if stages[k].is_none() && !part.named && behind {
            stages[k] = agree(&stages, &part.inputs);
        }
    }
    for (k, part) in parts.iter().enumerate().rev().filter(|(_, part)| !part.named) {
        let users: Vec<usize> = (0..parts.len()).filter(|&u| parts[u].inputs.contains(&k)).collect();
        let beside = |stage: &String| {
            let shares = |u: usize| u != k && parts[u].inputs.iter().any(|input| part.inputs.contains(input));
            (0..parts.len()).any(|u| stages[u].as_ref() == Some(stage) && shares(u))
        };
        if stages[k].is_none() {
            stages[k] = agree(&stages, &users).filter(beside);
        }
    }
    stages
}

/// The parts with one in place of `members`.
fn contract(mut parts: Vec<Part>, members: &[usize], name: String) -> Vec<Part> {
    let (first, last) = (members[0], members[members.len() - 1]);
    let mut inputs: Vec<usize> = members.iter().flat_map(|&m| parts[m].inputs.clone()).collect();
    inputs.retain(|input| !members.contains(input));
    inputs.sort_unstable();
    inputs.dedup();
    let layers = |kind| members.iter().filter(|&&m| parts[m].kind == kind).count();
    let named = [(BlockKind::Conv, "convolution"), (BlockKind::Linear, "linear layer")];
    let told = |(kind, name): (BlockKind, &str)| match layers(kind) {
        0 => None,
        1 => Some(format!("1 {name}")),
        n => Some(format!("{n} {name}s")),
    };
    parts[first] = Part {
        path: name.clone(),
        kind: BlockKind::Group,
        title: name,
        details: named.into_iter().filter_map(told).collect(),
        fused: vec![],
        weights: members.iter().map(|&m| parts[m].weights).sum(),
        shape: parts[last].shape.clone(),
        inputs,
        named: true,
        block: None,
    };
    let mut home: Vec<usize> = (0..parts.len()).collect();
    members.iter().for_each(|&m| home[m] = first);
    renumber(parts, &home)
}

/// Whether no part outside both depends on a member and is depended on by one.
fn closed(parts: &[Part], members: &[usize]) -> bool {
    let mut after = vec![false; parts.len()];
    for (index, part) in parts.iter().enumerate() {
        let member = members.contains(&index);
        let depends = part.inputs.iter().any(|&i| after[i]);
        if member && depends {
            return false;
        }
        after[index] = depends || (!member && part.inputs.iter().any(|i| members.contains(i)));
    }
    true
}

/// Drops every part whose home is another one, sends its users there, and puts each part after its inputs.
fn renumber(parts: Vec<Part>, home: &[usize]) -> Vec<Part> {
    let inputs = |part: &Part| part.inputs.iter().map(|&i| home[i]).collect::<Vec<usize>>();
    let mut place: Vec<Option<usize>> = vec![None; parts.len()];
    let mut order: Vec<usize> = Vec::new();
    let mut waiting: Vec<usize> = (0..parts.len()).filter(|&k| home[k] == k).collect();
    while !waiting.is_empty() {
        let before = order.len();
        waiting.retain(|&k| {
            let ready = inputs(&parts[k]).iter().all(|&i| place[i].is_some());
            if ready {
                place[k] = Some(order.len());
                order.push(k);
            }
            !ready
        });
        if order.len() == before {
            break;
        }
    }
    let moved = |&k: &usize| {
        let mut inputs: Vec<usize> = inputs(&parts[k]).into_iter().filter_map(|i| place[i]).collect();
        inputs.dedup();
        Part { inputs, ..parts[k].clone() }
    };
    order.iter().map(moved).collect()
}

/// Keeps one of equal numbered blocks in a row.
pub(super) fn fold(parts: Vec<Part>) -> (Vec<Part>, Vec<Repeat>) {
    let blocks = blocks(&parts);
    let mut home: Vec<usize> = (0..parts.len()).collect();
    let mut repeats: Vec<Repeat> = Vec::new();
    let mut last: Option<&Numbered> = None;
    for block in &blocks {
        let follows =
            last.is_some_and(|l| l.look == block.look && l.parent == block.parent && l.exit == block.entry);
        if follows && let Some(repeat) = repeats.last_mut() {
            repeat.count += 1;
            for (&own, &kept) in block.parts.iter().zip(&repeat.parts) {
                home[own] = kept;
            }
        } else {
            repeats.push(Repeat { count: 1, parts: block.parts.clone() });
        }
        last = Some(block);
    }
    repeats.retain(|repeat| repeat.count > 1);
    let mut place = vec![0; parts.len()];
    let mut kept = 0;
    for index in 0..parts.len() {
        place[index] = kept;
        kept += usize::from(home[index] == index);
    }
    for repeat in &mut repeats {
        repeat.parts.iter_mut().for_each(|part| *part = place[*part]);
    }
    (renumber(parts, &home), repeats)
}

/// A numbered block with one part that enters it and one part of it that is used outside.
#[derive(Debug)]
struct Numbered {
    parent: String,
    parts: Vec<usize>,
    entry: usize,
    exit: usize,
    /// Everything drawn of it but the names; equal for blocks that look the same.
    look: String,
}

fn blocks(parts: &[Part]) -> Vec<Numbered> {
    let mut members: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (index, part) in parts.iter().enumerate() {
        if let Some(block) = &part.block {
            let place = *known.entry(block).or_insert_with(|| {
                members.push((block, vec![]));
                members.len() - 1
            });
            members[place].1.push(index);
        }
    }
    members.into_iter().filter_map(|(path, members)| numbered(parts, path, members)).collect()
}

fn numbered(parts: &[Part], path: &str, members: Vec<usize>) -> Option<Numbered> {
    let inside = |index: &usize| members.contains(index);
    let mut entries = members.iter().flat_map(|&m| &parts[m].inputs).filter(|i| !inside(i));
    let entry = *entries.next()?;
    let outside = (0..parts.len()).filter(|index| !inside(index));
    let mut exits = outside.flat_map(|index| &parts[index].inputs).filter(|i| inside(i));
    let exit = *exits.next()?;
    if !entries.all(|&e| e == entry) || !exits.all(|&e| e == exit) || !closed(parts, &members) {
        return None;
    }
    let place = |input: &usize| members.iter().position(|m| m == input);
    let look = |&m: &usize| {
        let part = &parts[m];
        let name = part.title.strip_prefix(path).unwrap_or(&part.title);
        let inputs: Vec<Option<usize>> = part.inputs.iter().map(place).collect();
        format!(
            "{name} {:?} {:?} {:?} {} {} {inputs:?}",
            part.kind, part.details, part.fused, part.weights, part.shape
        )
    };
    let look = members.iter().map(look).collect::<Vec<_>>().join("\n") + &parts[entry].shape;
    let parent = path.rsplit_once('.').map_or("", |p| p.0).to_owned();
    Some(Numbered { parent, parts: members, entry, exit, look })
}
