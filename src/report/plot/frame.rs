//! The sheet that plots are drawn on: the frame with its axes, texts, legends.

use super::axis::Axis;
use super::ink::{Class, Ink};
use crate::report::figure::line;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::io;

/// What is drawn on.
pub type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Whether it could be drawn.
pub type Painted<T = ()> = Result<T, DrawingAreaErrorKind<io::Error>>;

/// How wide sheets are: pixels, as all lengths are here. Readers scale them.
pub const WIDTH: i32 = 760;
/// The name of the y axis is written round the left edge of its area: so much is left for half of it.
const EDGE: i32 = 9;
/// How high letters are.
pub const LETTER: i32 = 12;
/// How high a line of a legend is.
const LEGEND_LINE: i32 = 20;
/// plotters takes letters for so much smaller than asked for.
const FONT: f64 = 1.24;

/// How wide the margins are that have no data.
#[derive(Clone, Copy, Debug)]
pub struct Margins {
    pub left: i32,
    pub right: i32,
    pub top: i32,
    pub bottom: i32,
}

/// Where the data go.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: i32,
    pub right: i32,
    pub top: i32,
    pub bottom: i32,
}

/// Where a text is with respect to its place.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Left,
    Middle,
    Right,
}

impl Frame {
    /// Draws both axes, with lines of a grid for those that have them.
    pub fn draw(
        sheet: &Sheet,
        margins: Margins,
        x: (&Axis, bool),
        y: (&Axis, bool),
    ) -> Painted<Self> {
        let (width, height) = sheet.dim_in_pixel();
        let mut chart = ChartBuilder::on(sheet)
            .margin_left(EDGE)
            .margin_top(margins.top)
            .margin_right(margins.right)
            .x_label_area_size(margins.bottom)
            .y_label_area_size(margins.left - EDGE)
            .build_cartesian_2d(x.0.clone(), y.0.clone())?;
        let mut mesh = chart.configure_mesh();
        if !x.1 {
            mesh.disable_x_mesh();
        }
        if !y.1 {
            mesh.disable_y_mesh();
        }
        let (label, name) = (style(LETTER, Ink::Muted), style(LETTER, Ink::Text));
        mesh.bold_line_style(Ink::Grid.color())
            .light_line_style(TRANSPARENT)
            .axis_style(Ink::Muted.color())
            .label_style(label)
            .axis_desc_style(name)
            .set_all_tick_mark_size(3)
            .x_desc(line(&x.0.name))
            .y_desc(line(&y.0.name))
            .draw()?;
        Ok(Self {
            left: margins.left,
            right: width as i32 - margins.right,
            top: margins.top,
            bottom: height as i32 - margins.bottom,
        })
    }

    /// The pixel that is so far along both axes.
    pub fn at(&self, x: f64, y: f64) -> (i32, i32) {
        (self.x(x), self.y(y))
    }

    /// The column of pixels that is so far along the x axis.
    pub fn x(&self, part: f64) -> i32 {
        self.left + (part * f64::from(self.right - self.left) + 1e-3).floor() as i32
    }

    /// The row of pixels that is so far along the y axis.
    pub fn y(&self, part: f64) -> i32 {
        self.bottom - (part * f64::from(self.bottom - self.top) + 1e-3).floor() as i32
    }
}

/// Letters of that height.
pub fn style(height: i32, ink: Ink) -> TextStyle<'static> {
    ("sans-serif", f64::from(height) * FONT).into_font().color(&ink.color())
}

/// Writes `text` beside `at`, its middle at the same height.
pub fn write(sheet: &Sheet, text: &str, at: (i32, i32), side: Side, ink: Ink) -> Painted {
    let across = match side {
        Side::Left => HPos::Right,
        Side::Middle => HPos::Center,
        Side::Right => HPos::Left,
    };
    let style = style(LETTER, ink).pos(Pos::new(across, VPos::Center));
    sheet.draw(&Text::new(line(text), at, style))
}

/// Fills what is between two corners.
pub fn fill(sheet: &Sheet, corners: [(i32, i32); 2], ink: Ink) -> Painted {
    sheet.draw(&Rectangle::new(corners, ink.color().filled()))
}

/// A line through `points`.
pub fn path(sheet: &Sheet, points: Vec<(i32, i32)>, ink: Ink, width: u32, opacity: f64) -> Painted {
    sheet.draw(&PathElement::new(points, ink.color().mix(opacity).stroke_width(width)))
}

/// A rectangle's edge.
pub fn outline(
    sheet: &Sheet,
    [(left, top), (right, bottom)]: [(i32, i32); 2],
    ink: Ink,
) -> Painted {
    let corners = vec![(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
    path(sheet, corners, ink, 1, 1.0)
}

/// What a legend shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A field of that colour.
    Field(Ink),
    /// A line of that colour, and so wide.
    Line(Ink, u32),
}

/// The fields of the classes of which there are trials, the most harmless first.
pub fn classes(counts: &[u64]) -> Vec<(Sign, String)> {
    let seen = Class::ALL.into_iter().zip(counts).filter(|(_, count)| **count > 0);
    seen.rev().map(|(class, _)| (Sign::Field(Ink::Of(class)), class.name().to_owned())).collect()
}

/// How many lines a legend of these takes, as high as they are.
pub fn legend_height(signs: &[(Sign, String)]) -> i32 {
    let last = places(signs).last().map_or(0, |(_, row)| row + 1);
    last * LEGEND_LINE
}

/// Draws a legend along the sheet's top.
pub fn legend(sheet: &Sheet, signs: &[(Sign, String)]) -> Painted {
    for ((sign, name), (x, row)) in signs.iter().zip(places(signs)) {
        let y = row * LEGEND_LINE + LEGEND_LINE / 2;
        match sign {
            Sign::Field(ink) => {
                let corners = [(x, y - 6), (x + 12, y + 6)];
                fill(sheet, corners, *ink)?;
                outline(sheet, corners, Ink::Muted)?;
            }
            Sign::Line(ink, width) => {
                path(sheet, vec![(x - 2, y), (x + 14, y)], *ink, *width, 1.0)?
            }
        }
        write(sheet, name, (x + 18, y), Side::Right, Ink::Text)?;
    }
    Ok(())
}

/// Where each sign of a legend begins, and in which of its lines.
fn places(signs: &[(Sign, String)]) -> Vec<(i32, i32)> {
    let (mut x, mut row) = (4, 0);
    let mut places = Vec::new();
    for (_, name) in signs {
        let width = 36 + name.chars().count() as i32 * (LETTER * 6 / 11);
        if x + width > WIDTH && x > 4 {
            (x, row) = (4, row + 1);
        }
        places.push((x, row));
        x += width;
    }
    places
}
