"""Any network, read through temporary hooks: one forward pass, and what follows a module as a function of its output.

Nothing is asked of the network but that the module is called in its forward pass: it may branch on values, take
several inputs, work in place. The price is that nothing is known of what follows the module: its gradient is left to
autograd.
"""

from distill.hooked.head import HookedHead
from distill.hooked.reading import run_hooked

__all__ = ["HookedHead", "run_hooked"]
