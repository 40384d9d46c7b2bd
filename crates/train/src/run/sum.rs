//! Adding the gradients of a step's parts.

/// The sum of `parts` (a power of two) values as a binary tree: 0 with 1, 2 with 3, then these sums, and so on. `compute` is
/// asked for one after the other and overwrites what it is given; `first` is the first value's memory. At most
/// log2(parts) + 1 values are in memory.
///
/// # Errors
/// The first error of `compute`.
pub fn sum_of_parts<T: Clone, E>(
    parts: usize,
    first: T,
    compute: &mut dyn FnMut(usize, &mut T) -> Result<(), E>,
    add: &dyn Fn(&mut T, &T),
) -> Result<T, E> {
    // As in counting: each entry is the sum of a whole subtree, larger ones first.
    let mut sums: Vec<(u32, T)> = Vec::new();
    let mut spare = vec![first];
    for part in 0..parts.max(1) {
        let mut value = match spare.pop() {
            Some(value) => value,
            None => sums[0].1.clone(),
        };
        compute(part, &mut value)?;
        let mut level = 0;
        while let Some((_, mut left)) = sums.pop_if(|(of, _)| *of == level) {
            add(&mut left, &value);
            spare.push(std::mem::replace(&mut value, left));
            level += 1;
        }
        sums.push((level, value));
    }
    let mut total = match sums.pop() {
        Some((_, value)) => value,
        None => spare.swap_remove(0),
    };
    // Not a power of two: what is left, smallest first.
    while let Some((_, mut left)) = sums.pop() {
        add(&mut left, &total);
        total = left;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_the_shape_that_it_says() {
        let shape = |parts| {
            let mut compute = |part: usize, value: &mut String| {
                *value = part.to_string();
                Ok::<_, ()>(())
            };
            let add = |left: &mut String, right: &String| *left = format!("({left}+{right})");
            sum_of_parts(parts, String::new(), &mut compute, &add).unwrap()
        };
        assert_eq!(shape(1), "0");
        assert_eq!(shape(2), "(0+1)");
        assert_eq!(shape(8), "(((0+1)+(2+3))+((4+5)+(6+7)))");
        assert_eq!(shape(6), "(((0+1)+(2+3))+(4+5))");
        let failed =
            sum_of_parts(4, 0, &mut |part, _| if part == 2 { Err(part) } else { Ok(()) }, &|a, b| *a += b);
        assert_eq!(failed, Err(2));
    }
}
