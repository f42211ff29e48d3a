//! A session: what the events of one transmitter at one place have in common.

use heimdall_geo::Position;

use crate::multipath::Detours;
use crate::random::{Purpose, StreamKey};
use crate::{LinkGeometry, TransmitterLatents, World};

/// What the events of a session have in common.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) index: usize,
    pub(crate) position: Position,
    pub(crate) transmitter: TransmitterLatents,
    pub(crate) links: Vec<SessionLink>,
}

/// What the events of a session have in common on the way to one receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLink {
    pub(crate) distance_km: f64,
    pub(crate) path_loss_db: f64,
    pub(crate) shadowing_db: f64,
    pub(crate) detours: Detours,
}

impl World {
    /// Draws a session.
    pub(crate) fn session(&self, index: usize) -> Session {
        let place = self.area.draw(&mut self.random(StreamKey::at(Purpose::Place, index)));
        let position =
            self.frame.to_position(&place).expect("the corners of the area lie over the Earth");
        let mut random = self.random(StreamKey::at(Purpose::Transmitter, index));
        let transmitter = self.config.transmitters.draw(&mut random);

        let fields = self.fields.at(&place);
        let (common_field, own_fields) =
            fields.split_first().expect("there is at least the common field");
        let (shadow_fields, delay_fields) = own_fields.split_at(self.receivers.len());
        let mut random = self.random(StreamKey::at(Purpose::SessionShadowing, index));
        let session_common = random.normal();
        let shadowing = &self.config.shadowing;

        let links = self
            .receivers
            .iter()
            .enumerate()
            .map(|(number, receiver)| {
                let distance_km = position.distance_km(&receiver.position);
                let geometry = LinkGeometry {
                    distance_km,
                    frequency_hz: self.config.frequency_hz,
                    receiver_height_m: receiver.antenna_height_m,
                    transmitter_height_m: transmitter.antenna_height_m,
                };
                let of_place = shadowing.mix(*common_field, shadow_fields[number]);
                let of_session = shadowing.mix(session_common, random.normal());
                let detours = self.config.multipath.as_ref().map_or(Detours::NONE, |multipath| {
                    let key = StreamKey::link(Purpose::Multipath, index, number);
                    multipath.draw(distance_km, delay_fields[number], &mut self.random(key))
                });
                SessionLink {
                    distance_km,
                    path_loss_db: self.config.path_loss.loss_db(&geometry),
                    shadowing_db: shadowing.static_deviation_db * of_place
                        + shadowing.session_deviation_db * of_session,
                    detours,
                }
            })
            .collect();
        Session { index, position, transmitter, links }
    }
}
