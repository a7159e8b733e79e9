//! A vector with holes: values keep their index, freed places are used again.

/// Marks "no index" in flat arrays of `u32`.
pub const NONE: u32 = u32::MAX;

/// Values at stable indexes.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// With room for so many before it grows.
    pub fn with_capacity(values: usize) -> Self {
        Self {
            places: Vec::with_capacity(values),
            free: Vec::with_capacity(values),
        }
    }

    /// Stores `value` and returns its index.
    pub fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.places[index as usize] = Some(value);
            return index;
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 tunnels and sessions exist");
        self.places.push(Some(value));
        index
    }

    /// Takes the value out; the index may be given to another.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.places.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(value)
    }

    /// The value at `index`.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.as_ref()
    }

    /// The value at `index`, to change.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    /// How many values are stored.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether none is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_place_is_used_again() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!((slab.insert('c'), slab.get(b), slab.len()), (a, Some(&'b'), 2));
        assert!(!slab.is_empty());
    }
}
