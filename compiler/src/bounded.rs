//! Bounded deserialisation of lists: an item may take more memory than bytes in the file, so the number of items is
//! limited.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// A list of at most `MOST` items.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List::<T, MOST>(PhantomData))
}

/// The same, of a list that may be absent.
pub(crate) fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(bound = "T: Deserialize<'de>")]
    struct Bounded<T, const MOST: usize>(#[serde(deserialize_with = "list::<_, _, MOST>")] Vec<T>);
    let list = Option::<Bounded<T, MOST>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.0))
}

struct List<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::custom(format_args!("a list of more than {MOST} items")));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Few(#[serde(deserialize_with = "list::<_, _, 3>")] Vec<u8>);

    #[test]
    fn a_list_is_read_up_to_its_limit() {
        for (count, fits) in [(0, true), (3, true), (4, false)] {
            let bytes = postcard::to_stdvec(&vec![7u8; count]).unwrap();
            let list = postcard::from_bytes::<Few>(&bytes);
            assert_eq!(list.is_ok_and(|list| list.0 == vec![7; count]), fits, "{count}");
        }
        // A declared length alone allocates nothing.
        assert!(postcard::from_bytes::<Few>(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}
