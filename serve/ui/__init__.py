"""The web page: chat with the assistants, two side by side, and a status board. Built on Gradio."""
