package sample

// layoutKey is the name of a layout's condition in model configurations.
const layoutKey = "coordinates_bbox"
