"""Unrelated questions and statements in languages of Latin script, to calibrate relevance.

A model that reads only English gives texts in one other language cosines of unrelated English
texts that are 3 to 5 deviations higher: it recognizes the letters, and they look alike. Written
for this purpose; each question has another subject than each statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from luma_memory.pipeline.recall.script_samples import Samples, samples

# By ISO 639-1: questions, statements.
LANGUAGE_SAMPLES: Final[Mapping[str, Samples]] = {
    "de": samples(
        """
Wie lange muss der Brotteig ruhen?
Welcher Zug fährt abends zum Flughafen?
Wer hat das Dach der Scheune repariert?
Wann ist die Steuererklärung fällig?
Wie heißt der Papagei der Nachbarn?
Wie setze ich das Passwort des Routers zurück?
""",
        """
Der Vulkan am Hafen ist seit vierzig Jahren ruhig.
Unser Schachclub trifft sich im Keller der Bibliothek.
Er hat beim dritten Versuch endlich die Fahrprüfung bestanden.
Das Museum hat einen Schatz römischer Münzen gekauft.
Von der Fähre aus sahen wir Buckelwale.
Der Lüfter meines Laptops ist so laut, dass ich mit Kopfhörern arbeite.
""",
    ),
    "es": samples(
        """
¿Cuánto tiempo tiene que reposar la masa del pan?
¿Qué tren va al aeropuerto por la noche?
¿Quién reparó el tejado del granero?
¿Cuándo hay que presentar la declaración de la renta?
¿Cómo se llama el loro de los vecinos?
¿Cómo restablezco la contraseña del rúter?
""",
        """
El volcán cerca del puerto lleva cuarenta años tranquilo.
Nuestro club de ajedrez se reúne en el sótano de la biblioteca.
Por fin aprobó el examen de conducir al tercer intento.
El museo compró un tesoro de monedas romanas.
Desde el transbordador vimos ballenas jorobadas.
El ventilador de mi portátil hace tanto ruido que trabajo con auriculares.
""",
    ),
    "fr": samples(
        """
Combien de temps la pâte à pain doit-elle reposer ?
Quel train va à l'aéroport le soir ?
Qui a réparé le toit de la grange ?
Quand faut-il rendre la déclaration d'impôts ?
Comment s'appelle le perroquet des voisins ?
Comment changer le mot de passe du routeur ?
""",
        """
Le volcan près du port est calme depuis quarante ans.
Notre club d'échecs se réunit dans la cave de la bibliothèque.
Il a enfin réussi son permis à la troisième tentative.
Le musée a acheté un trésor de pièces romaines.
Du ferry, nous avons vu des baleines à bosse.
Le ventilateur de mon ordinateur est si bruyant que je travaille avec un casque.
""",
    ),
    "it": samples(
        """
Quanto deve riposare l'impasto del pane?
Quale treno va all'aeroporto la sera?
Chi ha riparato il tetto del fienile?
Quando va presentata la dichiarazione dei redditi?
Come si chiama il pappagallo dei vicini?
Come reimposto la password del router?
""",
        """
Il vulcano vicino al porto è tranquillo da quarant'anni.
Il nostro circolo di scacchi si riunisce nella cantina della biblioteca.
Alla fine ha superato l'esame di guida al terzo tentativo.
Il museo ha comprato un tesoro di monete romane.
Dal traghetto abbiamo visto le megattere.
La ventola del mio portatile fa così rumore che lavoro con le cuffie.
""",
    ),
    "nl": samples(
        """
Hoe lang moet het brooddeeg rusten?
Welke trein gaat 's avonds naar de luchthaven?
Wie heeft het dak van de schuur gerepareerd?
Wanneer moet de belastingaangifte binnen zijn?
Hoe heet de papegaai van de buren?
Hoe stel ik het wachtwoord van de router opnieuw in?
""",
        """
De vulkaan bij de haven is al veertig jaar rustig.
Onze schaakclub komt bijeen in de kelder van de bibliotheek.
Hij is bij de derde poging eindelijk geslaagd voor zijn rijexamen.
Het museum heeft een schat aan Romeinse munten gekocht.
Vanaf de veerboot zagen we bultruggen.
De ventilator van mijn laptop is zo luid dat ik met een koptelefoon werk.
""",
    ),
    "pl": samples(
        """
Jak długo musi odpoczywać ciasto na chleb?
Który pociąg jedzie wieczorem na lotnisko?
Kto naprawił dach stodoły?
Kiedy trzeba złożyć zeznanie podatkowe?
Jak nazywa się papuga sąsiadów?
Jak zresetować hasło do routera?
""",
        """
Wulkan koło portu jest spokojny od czterdziestu lat.
Nasz klub szachowy spotyka się w piwnicy biblioteki.
Wreszcie zdał egzamin na prawo jazdy za trzecim razem.
Muzeum kupiło skarb rzymskich monet.
Z promu widzieliśmy humbaki.
Wentylator mojego laptopa jest tak głośny, że pracuję w słuchawkach.
""",
    ),
    "pt": samples(
        """
Quanto tempo a massa do pão tem de descansar?
Que comboio vai para o aeroporto à noite?
Quem consertou o telhado do celeiro?
Quando é preciso entregar a declaração de impostos?
Como se chama o papagaio dos vizinhos?
Como redefino a senha do roteador?
""",
        """
O vulcão perto do porto está calmo há quarenta anos.
O nosso clube de xadrez reúne-se na cave da biblioteca.
Ele finalmente passou no exame de condução à terceira tentativa.
O museu comprou um tesouro de moedas romanas.
Da balsa vimos baleias-jubarte.
A ventoinha do meu portátil faz tanto barulho que trabalho com auscultadores.
""",
    ),
    "sv": samples(
        """
Hur länge måste bröddegen vila?
Vilket tåg går till flygplatsen på kvällen?
Vem lagade taket på ladan?
När ska deklarationen lämnas in?
Vad heter grannarnas papegoja?
Hur återställer jag routerns lösenord?
""",
        """
Vulkanen vid hamnen har varit lugn i fyrtio år.
Vår schackklubb träffas i bibliotekets källare.
Han klarade äntligen uppkörningen på tredje försöket.
Museet köpte en skatt av romerska mynt.
Från färjan såg vi knölvalar.
Fläkten i min dator låter så högt att jag jobbar med hörlurar.
""",
    ),
    "tr": samples(
        """
Ekmek hamuru ne kadar dinlenmeli?
Akşam havaalanına hangi tren gidiyor?
Ahırın çatısını kim onardı?
Vergi beyannamesi ne zaman verilmeli?
Komşuların papağanının adı ne?
Yönlendiricinin parolasını nasıl sıfırlarım?
""",
        """
Limanın yakınındaki yanardağ kırk yıldır sakin.
Satranç kulübümüz kütüphanenin bodrumunda toplanıyor.
Üçüncü denemede sonunda sürücü sınavını geçti.
Müze bir Roma sikkesi hazinesi satın aldı.
Feribottan kambur balinalar gördük.
Dizüstü bilgisayarımın fanı o kadar gürültülü ki kulaklıkla çalışıyorum.
""",
    ),
}
