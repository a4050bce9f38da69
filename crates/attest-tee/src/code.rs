//! Which code is accepted in a confidential machine.

use facts::Finding;

/// The reference values for what runs inside. The default accepts nothing: a list that was forgotten
/// never means "any".
#[derive(Debug, Clone)]
pub enum Code<Image> {
    /// One of these, by name. The name becomes the fact `machine.tee.image`.
    Listed(Vec<Image>),
    /// The measurement is stated as a fact and judged by the estate's policies alone.
    LeftToPolicy,
}

impl<Image> Default for Code<Image> {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// What was recognised.
pub(crate) enum Recognised<'a> {
    As(&'a str),
    LeftToPolicy,
}

impl Recognised<'_> {
    pub(crate) const fn name(&self) -> Option<&str> {
        match self {
            Self::As(name) => Some(name),
            Self::LeftToPolicy => None,
        }
    }
}

impl<Image> Code<Image> {
    /// The first image that `is_it`; `refusal` gets the names of all that were expected.
    pub(crate) fn recognise<'a>(
        &'a self,
        name: impl Fn(&'a Image) -> &'a str,
        is_it: impl Fn(&Image) -> bool,
        refusal: impl FnOnce(String) -> Finding,
    ) -> Result<Recognised<'a>, Finding> {
        let images = match self {
            Self::LeftToPolicy => return Ok(Recognised::LeftToPolicy),
            Self::Listed(images) => images,
        };
        match images.iter().find(|image| is_it(image)) {
            Some(image) => Ok(Recognised::As(name(image))),
            None if images.is_empty() => Err(refusal("no image is listed".to_owned())),
            None => {
                let names: Vec<_> = images.iter().map(&name).take(16).collect();
                Err(refusal(format!("one of: {}", names.join(", "))))
            }
        }
    }
}
