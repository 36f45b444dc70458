//! `geoDistance`.

/// Kilometres between two points by the spherical law of cosines, on a sphere of 6371 km. `None`
/// where rounding pushes the cosine past 1, as SQLite's `acos` answers NULL there.
pub fn geo_distance(lon_a: f64, lat_a: f64, lon_b: f64, lat_b: f64) -> Option<f64> {
    let radians = |degrees: f64| degrees * (std::f64::consts::PI / 180.0);
    let (lat_a, lat_b) = (radians(lat_a), radians(lat_b));
    let cosine =
        lat_a.cos() * lat_b.cos() * (radians(lon_b) - radians(lon_a)).cos() + lat_a.sin() * lat_b.sin();
    let distance = 6371.0 * cosine.acos();
    (!distance.is_nan()).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_degree_of_latitude_is_about_111_kilometres() {
        let distance = geo_distance(0.0, 0.0, 0.0, 1.0).unwrap();
        assert!((distance - 111.19).abs() < 0.01, "{distance}");
    }
}
