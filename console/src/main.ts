import { mount } from "svelte";
import App from "./App.svelte";
import { session } from "./lib/session.svelte";
import "./app.css";
import "uplot/dist/uPlot.min.css";

// Its call runs while the page is made.
void session.start();
mount(App, { target: document.getElementById("console") as HTMLElement });
