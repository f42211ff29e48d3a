//! Several networks that learned the same from other beginnings, as one.

use burn::module::Module;
use burn::tensor::Device;

use crate::{Estimate, EstimateComponent, LocalizationNet, LocalizationNetConfig, NetworkInput};

/// Networks whose estimates are mixed in equal shares; a single one speaks for itself.
///
/// Where the members agree, the estimate is as sure as they are. Where they do not, what they
/// disagree on is part of its covariance: see [`Estimate::mixture`].
#[derive(Module, Debug)]
pub struct Ensemble {
    members: Vec<LocalizationNet>,
}

impl Ensemble {
    /// Takes the members together.
    ///
    /// # Panics
    ///
    /// If there are none, or if they differ in more than their seeds.
    pub fn new(members: Vec<LocalizationNet>) -> Self {
        let first = members.first().expect("an ensemble has members").config();
        for member in &members {
            let expected = LocalizationNetConfig { seed: member.config().seed, ..first.clone() };
            assert!(*member.config() == expected, "members differ in their seeds only");
        }
        Self { members }
    }

    /// Makes members that differ in their seeds, on `device`.
    ///
    /// # Panics
    ///
    /// If there are no seeds, or the configuration is not valid.
    pub fn init(config: &LocalizationNetConfig, seeds: &[u64], device: &Device) -> Self {
        let member = |&seed: &u64| LocalizationNetConfig { seed, ..config.clone() }.init(device);
        Self::new(seeds.iter().map(member).collect())
    }

    /// The members, of which there is at least one.
    pub fn members(&self) -> &[LocalizationNet] {
        &self.members
    }

    /// The configuration of the first member; the others have other seeds.
    pub fn config(&self) -> &LocalizationNetConfig {
        self.members[0].config()
    }

    /// Estimates the position of each event.
    ///
    /// # Panics
    ///
    /// As [`LocalizationNet::forward`] does.
    pub fn forward(&self, input: NetworkInput) -> Estimate {
        if let [alone] = self.members.as_slice() {
            return alone.forward(input);
        }
        let log_members = (self.members.len() as f64).ln();
        let components = self.members.iter().flat_map(|member| {
            let components = member.forward(input.clone()).components;
            components.into_iter().map(|component| EstimateComponent {
                log_share: component.log_share - log_members,
                ..component
            })
        });
        Estimate::mixture(components.collect())
    }
}

impl From<LocalizationNet> for Ensemble {
    fn from(network: LocalizationNet) -> Self {
        Self { members: vec![network] }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;

    fn config() -> LocalizationNetConfig {
        LocalizationNetConfig { head_width: 8, ..LocalizationNetConfig::default() }
    }

    fn levels_db(device: &Device) -> NetworkInput {
        Tensor::<4>::from_data([[[[3.0, -1.0]], [[0.5, 2.0]], [[-4.0, 1.0]]]], device).into()
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// `μ̄ = mean μ` and `Σ̄ = mean Σ + cov μ`, the covariance over the members and not their sample.
    #[test]
    fn members_are_mixed_in_equal_shares() {
        let device = Device::flex();
        let ensemble = Ensemble::init(&config(), &[1, 2, 3], &device);
        let input = levels_db(&device);

        let mixed = ensemble.forward(input.clone());

        let alone: Vec<[Vec<f32>; 2]> = ensemble
            .members()
            .iter()
            .map(|member| member.forward(input.clone()))
            .map(|estimate| [values(estimate.mean_km), values(estimate.cholesky_km)])
            .collect();
        let mean = |of: &dyn Fn(&[Vec<f32>; 2]) -> f32| alone.iter().map(of).sum::<f32>() / 3.0;
        let [east, north] = [0, 1].map(|axis| mean(&|[mean, _]| mean[axis]));
        let variance = mean(&|[mean, l]| l[0] * l[0] + (mean[0] - east).powi(2));
        let both = mean(&|[mean, l]| l[0] * l[1] + (mean[0] - east) * (mean[1] - north));
        let (mixed_mean, factor) = (values(mixed.mean_km), values(mixed.cholesky_km));
        assert!((mixed_mean[0] - east).abs() < 1e-5 && (mixed_mean[1] - north).abs() < 1e-5);
        assert!((factor[0] * factor[0] - variance).abs() < 1e-4, "{factor:?}");
        assert!((factor[0] * factor[1] - both).abs() < 1e-4, "{factor:?}");
        assert!(alone[0] != alone[1], "members that are one");
    }

    #[test]
    fn single_member_speaks_for_itself() {
        let device = Device::flex();
        let network = config().init(&device);
        let expected = network.forward(levels_db(&device));

        let estimate = Ensemble::from(network).forward(levels_db(&device));

        assert_eq!(values(estimate.mean_km), values(expected.mean_km));
        assert_eq!(values(estimate.cholesky_km), values(expected.cholesky_km));
    }

    #[test]
    #[should_panic(expected = "differ in their seeds only")]
    fn members_of_another_kind_are_refused() {
        let device = Device::flex();
        let other = LocalizationNetConfig { head_width: 9, ..config() };

        let _ = Ensemble::new(vec![config().init(&device), other.init(&device)]);
    }
}
