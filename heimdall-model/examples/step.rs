//! t
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use heimdall_model::*;
fn main() {
    let frames: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let d = Device::flex().autodiff();
    d.seed(1);
    let config = LocalizationNetConfig { input_channels: 7, standardization: Standardization::identity(7), ..Default::default() };
    let mut m = config.init(&d);
    let mut opt = AdamConfig::new().init();
    let x = Tensor::<4>::random([32, 7, 128, frames], Distribution::Normal(0.0, 1.0), &d);
    for i in 0..8 {
        let t = std::time::Instant::now();
        let e = m.forward(x.clone());
        let l = e.mean_km.square().mean() + e.cholesky_km.square().mean();
        let g = GradientsParams::from_grads(l.backward(), &m);
        m = opt.step(1e-3, m, g);
        eprintln!("{i} {:.0} ms {}", t.elapsed().as_secs_f64() * 1e3, l.into_scalar::<f32>());
    }
}
