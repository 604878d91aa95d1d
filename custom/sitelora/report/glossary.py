"""The words of the page, each explained in a sentence or two for a reader who is new to it."""

GLOSSARY = {
    "Dice": "Overlap of the predicted and the true region: 0 is none, 1 is perfect.",
    "HD95": (
        "95 % of the border of either region lies closer than this to the other border; smaller is better. A dash "
        "means that one region is empty, so that there is no distance."
    ),
    "NSD": (
        "Share of both borders that lies within a tolerance of the other border (2 mm, or 2 pixels for pictures, "
        "unless the run says otherwise); 1 is perfect."
    ),
    "95 % interval": (
        "Where the mean would probably lie for other patients like these, from a bootstrap over patients. Below "
        "three patients there is none; with few patients it is too narrow."
    ),
    "Base": "The frozen foundation model as it is, before any training here.",
    "Received": "What a site gets from the server at the start of a round, before it trains.",
    "Freshly trained": "What a site's training in a round ends with, before the server averages it with the others'.",
    "Served": (
        "What a site is given to use: the newest of the received, the freshly trained and the previously served model "
        "that its own validation cases do not show to be worse than the best it had, by more than the standard error "
        "of the difference. Without such cases it is the trained one, unjudged."
    ),
    "Global model": "One model for all sites, made from the shared tensors alone.",
    "Personal model": "A site's own model: shared tensors together with the site's local ones; the one it is served.",
    "Unseen-site model": "What a hospital that never took part would be given.",
    "Shared, local, frozen": (
        "Shared tensors travel in every round, local ones never leave their site, frozen ones never change."
    ),
    "Adapter, A and B": (
        "Two small matrices whose product B A is added to a frozen one. A mean of the sites' products is not the "
        "product of their mean factors."
    ),
    "Round": (
        "Every site receives the shared tensors, trains on its own data and sends back what changed. Rounds count "
        "from 0 here and in the files of a run; the terminal counts from 1, so its round 5/5 is round 4."
    ),
}
