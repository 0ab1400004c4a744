"""Custom views (``gr.HTML`` with its own script): one file each, their scripts and styles in assets/web."""
