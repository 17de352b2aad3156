"""L2-penalised logistic regression for all penalties and folds of a labelled subset.

Together, in batched matrix products. A member is one penalty on one set of training images (a
fold's, or the whole subset). Its objective, with features standardised by the mean and standard
deviation of its own n images, is

    mean over images of the cross-entropy  +  penalty / 2 * ||W||_F^2,        bias not penalised,

softmax over the classes (multiclass, ordinal), or one logistic loss a label (multi-label; binary is
one label, which equals a softmax of two classes at twice the penalty). scikit-learn's
LogisticRegression has the same minimiser at C = 1 / (n * penalty).

How. Standardised features are rotated into the eigenbasis of their Gram matrix: the penalty does
not change, and n < D images live in n dimensions. From two thirds of D images on the basis is that
of the whole pool, and where many images would have to be rotated the weights are (`spaces`). Take
the Hessian of the loss as (mean covariance of the class probabilities) x (Gram matrix), a Kronecker
product: in both eigenbases it is diagonal, for every penalty at once. (Boehning's bound, Ann. Inst.
Statist. Math. 44, 1992, has the same form with the first factor (I - 11'/C) / 2; it knows nothing
of rare classes and took 1.6 to 2.1 times as many evaluations on HAM10000.) It preconditions a
batched L-BFGS (compact form: Byrd, Nocedal and Schnabel, Math. Programming 63, 1994, section 3),
and after some iterations gives way to the diagonal of the Hessian at the point reached: half as
many evaluations on 700 images, a seventh fewer on 7,000. The penalty is searched from the strong
end (`search`): of 25 penalties 8 to 12 are solved, each from its neighbours' solutions, which took
a seventh to a tenth of the iterations. On a CPU the products with the images go through oneDNN
(`products`), so that reading the images twice an evaluation is what bounds it. The final fit starts
from the mean of its folds, in float32 until it is as exact as float32 allows. Members that have
converged leave the batch, except where several subsets share one: there every shape is a subset's
own.

When it stops. Euclidean norm of the gradient of the mean objective <= tolerance (scikit-learn's
lbfgs bounds the largest entry: weaker). Where the bias is optimal, the duality gap is exactly
||gradient in W||^2 / (2 * penalty): the objective lies no further above its minimum.
Cross-validation runs in float32, the final fit in float64.
"""

from medbench.models.logistic.classifier import Model, Pool, base_rate, encode, model
from medbench.models.logistic.fitting import ClassTargets, Fits, fit, held_out_loss
from medbench.models.logistic.search import FEW, TOGETHER, Block, aligned, each_once, settle
from medbench.models.logistic.spaces import eigenbasis, shares

__all__ = [
    "FEW",
    "TOGETHER",
    "Block",
    "ClassTargets",
    "Fits",
    "Model",
    "Pool",
    "aligned",
    "base_rate",
    "each_once",
    "eigenbasis",
    "encode",
    "fit",
    "held_out_loss",
    "model",
    "settle",
    "shares",
]
