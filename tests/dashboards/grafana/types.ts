// What a dashboard of ours may be: Grafana's own types, with those of its panels, as JSON writes them.
import type { Dashboard, FieldConfig, FieldConfigSource, GraphFieldConfig, Panel, RowPanel, TableFieldOptions } from "@grafana/schema";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { Options as Table } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type { Options as TimeSeries } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON has the values of enumerations, not their members.
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

// Grafana's type of a panel takes any options.
type Of<Kind, Options, Custom> = Omit<Panel, "type" | "options" | "fieldConfig"> & {
  type: Kind;
  options: Options;
  fieldConfig: Omit<FieldConfigSource, "defaults"> & { defaults: Omit<FieldConfig, "custom"> & { custom?: Custom } };
};

type OurPanel =
  | Of<"timeseries", TimeSeries, GraphFieldConfig>
  | Of<"stat", Stat, never>
  | Of<"table", Table, Partial<TableFieldOptions>>
  | RowPanel;

export type OurDashboard = Json<Omit<Partial<Dashboard>, "panels"> & { panels: OurPanel[] }>;
