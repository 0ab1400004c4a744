"""The page. Knows Gradio, never torch: all work is done by ``pipelines`` through its engine."""
