//! Circles in a graph of names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Circles among `edges`, each as its names in order, the first repeated at the end. Where there is
/// any, there is at least one for each group of names that reach each other.
pub fn circles<'a>(edges: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Vec<&'a str>> {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges {
        graph.entry(from).or_default().insert(to);
    }
    let mut found: Vec<Vec<&str>> = Vec::new();
    for &start in graph.keys() {
        if !found.iter().any(|circle| circle.contains(&start)) {
            found.extend(shortest_way_back(&graph, start));
        }
    }
    found
}

fn shortest_way_back<'a>(
    graph: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut reached_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for &next in graph.get(at).into_iter().flatten() {
            if next == start {
                let mut way = vec![start, at];
                while let Some(&before) = reached_from.get(way[way.len() - 1]) {
                    way.push(before);
                }
                way.reverse();
                return Some(way);
            }
            if !reached_from.contains_key(next) {
                reached_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

#[test]
fn circles_are_found_and_ways_without_return_are_not() {
    let none: [Vec<&str>; 0] = [];
    assert_eq!(circles([("a", "b"), ("b", "c"), ("a", "c")]), none);
    assert_eq!(circles([("a", "a")]), [["a", "a"]]);
    assert_eq!(
        circles([("z", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]),
        [["a", "b", "c", "a"]]
    );
    assert_eq!(
        circles([("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")]),
        [["a", "b", "a"], ["c", "d", "c"]]
    );
}
