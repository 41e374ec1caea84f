//! A list whose items keep their place, so that leaving a crowd costs no search.

/// Items by place; a place that was left is given out again.
#[derive(Debug)]
pub(super) struct Places<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    count: usize,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }
}

impl<T> Places<T> {
    pub(super) fn add(&mut self, item: T) -> u32 {
        self.count += 1;
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(item);
            return place;
        }
        self.places.push(Some(item));
        u32::try_from(self.places.len() - 1)
            .expect("connections and their subscriptions are bounded far below")
    }

    /// Takes out what is at `place`. The memory goes with the last one.
    pub(super) fn remove(&mut self, place: u32) -> Option<T> {
        let item = self.places.get_mut(place as usize)?.take()?;
        self.count -= 1;
        self.free.push(place);
        if self.count == 0 {
            *self = Self::default();
        }
        Some(item)
    }

    pub(super) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize).and_then(Option::as_ref)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }

    /// Takes out all items that `which` chooses.
    pub(super) fn remove_if(&mut self, which: impl Fn(&T) -> bool) -> Vec<T> {
        let chosen = |item: &Option<T>| item.as_ref().is_some_and(&which);
        let places: Vec<usize> = (0..self.places.len())
            .filter(|&place| chosen(&self.places[place]))
            .collect();
        places
            .into_iter()
            .filter_map(|place| self.remove(u32::try_from(place).ok()?))
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_are_given_out_again() {
        let mut places = Places::default();
        let all: Vec<u32> = ["a", "b", "c"].into_iter().map(|item| places.add(item)).collect();
        assert_eq!(places.remove(all[1]), Some("b"));
        assert_eq!(places.remove(all[1]), None);
        assert_eq!((places.get(all[2]), places.len()), (Some(&"c"), 2));
        assert_eq!(places.add("d"), all[1]);
        assert_eq!(places.remove_if(|item| *item != "c"), ["a", "d"]);
        assert_eq!(places.iter_mut().map(|item| *item).collect::<Vec<_>>(), ["c"]);
        assert_eq!(places.remove(all[2]), Some("c"));
        assert_eq!((places.places.capacity(), places.len()), (0, 0));
    }
}
